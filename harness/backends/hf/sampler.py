"""How sequences choose their next token: from what their strategy makes of the logits, with shared noise."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from harness.backends.hf.recorder import RawStep, Recorder
from harness.decoding.gumbel import draw
from harness.decoding.logits import Logits
from harness.decoding.processors import Processors
from harness.decoding.truncation import Truncation, truncation_batch

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class BatchRows:
    """The rows of the batch at a step, the index of the token being chosen, from 0.

    `ids` are (R, S), prompts padded on the left to `width`; `prompt_tokens` (R,) count without padding.
    """

    ids: Tensor
    prompt_tokens: Sequence[int]
    width: int
    step: int


@dataclass(frozen=True)
class Sequences:
    """N sequences to choose a token for: their numbers in the recorder, and their rows of the batch.

    `keys` are their noise keys; None to take the likeliest token.
    """

    numbers: Sequence[int]
    rows: Sequence[int]
    keys: Sequence[int] | None


def choose_tokens(
    processors: Processors, recorder: Recorder, raw: RawStep, batch: BatchRows, sequences: Sequences
) -> Tensor:
    """Return (N,) tokens chosen for sequences of one strategy; record what they were chosen from."""
    if processors.only_truncates:
        which = [0] * len(sequences.numbers)
        return choose_truncated([processors], which, recorder, raw, batch, sequences)
    device = raw.logits.device
    rows = torch.tensor(sequences.rows, device=device)
    if processors.neutral:
        tokens = _choose(raw.logits.values.index_select(0, rows), sequences, batch.step)
        recorder.observe(sequences.numbers, raw, rows, tokens)
        return tokens
    distinct, indices = _distinct(sequences.rows)
    index = torch.tensor(distinct, device=device)
    lengths = [batch.prompt_tokens[row] for row in distinct]
    warped = processors(batch.ids[index], raw.logits.select(index).values, lengths, batch.width)
    if processors.truncation is not None:
        truncations, which = [processors.truncation], [0] * len(distinct)
        return _truncate_and_draw(
            truncations, Logits(warped), which, indices, recorder, raw, batch, sequences
        )
    warped_rows = torch.tensor(indices, device=device)
    tokens = _choose(warped.index_select(0, warped_rows), sequences, batch.step)
    recorder.observe(sequences.numbers, raw, rows, tokens, warped, warped_rows)
    return tokens


def choose_truncated(
    strategies: Sequence[Processors],
    which: Sequence[int],
    recorder: Recorder,
    raw: RawStep,
    batch: BatchRows,
    sequences: Sequences,
) -> Tensor:
    """Return (N,) tokens chosen for sequences of any strategies that only truncate, all of them together.

    `which` (N,) are the indices of the sequences' strategies.
    """
    distinct, indices = _distinct(list(zip(sequences.rows, which, strict=True)))
    index = torch.tensor([row for row, _ in distinct], device=raw.logits.device)
    logits = raw.logits.select(index)
    truncations = [one.truncation for one in strategies if one.truncation is not None]
    which = [strategy for _, strategy in distinct]
    return _truncate_and_draw(truncations, logits, which, indices, recorder, raw, batch, sequences)


def _truncate_and_draw(
    truncations: Sequence[Truncation],
    logits: Logits,
    which: Sequence[int],
    indices: Sequence[int],
    recorder: Recorder,
    raw: RawStep,
    batch: BatchRows,
    sequences: Sequences,
) -> Tensor:
    """Draw from what truncations keep of (M, V) logits; `indices` (N,) are the sequences' rows in them."""
    device = logits.device
    assert sequences.keys is not None, "truncations are for sampling"
    groups = truncation_batch(tuple(truncations), str(device))(logits, which)
    tokens = torch.empty(len(sequences.numbers), dtype=torch.long, device=device)
    for group, kept in groups:
        row_in_group = {index: row for row, index in enumerate(group)}
        members = [n for n, index in enumerate(indices) if index in row_in_group]
        rows = torch.tensor([sequences.rows[n] for n in members], device=device)
        kept_rows = torch.tensor([row_in_group[indices[n]] for n in members], device=device)
        keys = torch.tensor([sequences.keys[n] for n in members], device=device)
        drawn = draw(kept.select(kept_rows), keys, batch.step)
        recorder.observe([sequences.numbers[n] for n in members], raw, rows, drawn, kept, kept_rows)
        if len(groups) == 1:
            return drawn
        tokens[torch.tensor(members, device=device)] = drawn
    return tokens


def _distinct(values: Sequence[Key]) -> tuple[list[Key], list[int]]:
    """Return the distinct values in order of appearance, and each value's index among them."""
    index_of = {value: index for index, value in enumerate(dict.fromkeys(values))}
    return list(index_of), [index_of[value] for value in values]


def _choose(logits: Tensor, sequences: Sequences, step: int) -> Tensor:
    if sequences.keys is None:
        return logits.argmax(dim=-1)
    return draw(logits, torch.tensor(sequences.keys, device=logits.device), step)
