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
from harness.decoding.sampler_chain import Drawable, TruncatedLogits, by_order, sampler_chain
from harness.decoding.texts import Texts
from harness.decoding.warping import after_samplers

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

    def texts(self, rows: Sequence[int]) -> Texts:
        """Return some of the rows as processors read them."""
        index = torch.tensor(rows, device=self.ids.device)
        return Texts(self.ids[index], [self.prompt_tokens[row] for row in rows], self.width)


@dataclass(frozen=True)
class Sequences:
    """N sequences to choose a token for: their numbers in the recorder, and their rows of the batch.

    `keys` are their noise keys; None to take the likeliest token. `seen` are their rows of `RawStep.seen`,
    those of the batch where guidance has no rows of its own.
    """

    numbers: Sequence[int]
    rows: Sequence[int]
    keys: Sequence[int] | None
    seen: Sequence[int]

    def select(self, members: Sequence[int]) -> Sequences:
        """Return some of them."""
        return Sequences(
            [self.numbers[n] for n in members],
            [self.rows[n] for n in members],
            None if self.keys is None else [self.keys[n] for n in members],
            [self.seen[n] for n in members],
        )


def choose_tokens(
    processors: Processors, recorder: Recorder, raw: RawStep, batch: BatchRows, sequences: Sequences
) -> Tensor:
    """Return (N,) tokens chosen for sequences of one strategy; record what they were chosen from."""
    if processors.only_samples:
        which = [0] * len(sequences.numbers)
        return choose_by_samplers([processors], which, recorder, raw, batch, sequences)
    device = raw.logits.device
    rows = torch.tensor(sequences.rows, device=device)
    if processors.neutral:
        tokens = _choose(raw.logits.values.index_select(0, rows), sequences, batch.step)
        recorder.observe(sequences.numbers, raw, rows, tokens)
        return tokens
    distinct, indices = _distinct(list(zip(sequences.rows, sequences.seen, strict=True)))
    index = torch.tensor(distinct, device=device)
    texts = batch.texts([row for row, _ in distinct])
    warped = processors(texts, raw.seen.select(index[:, 1]).values)
    warped_rows = torch.tensor(indices, device=device)
    allowed = processors.allowed(texts, warped.shape[1])
    allowed_logprob = None
    if allowed is not None:
        allowed_logprob = raw.logprob_of(index[:, 0], allowed.to(device))[warped_rows]
    if processors.samplers is not None:
        which = [0] * len(distinct)
        return _sample(
            [processors], Logits(warped), which, indices, recorder, raw, batch, sequences, allowed_logprob
        )
    tokens = _choose(warped.index_select(0, warped_rows), sequences, batch.step)
    recorder.observe(sequences.numbers, raw, rows, tokens, warped, warped_rows, allowed_logprob)
    return tokens


def choose_by_samplers(
    strategies: Sequence[Processors],
    which: Sequence[int],
    recorder: Recorder,
    raw: RawStep,
    batch: BatchRows,
    sequences: Sequences,
) -> Tensor:
    """Return (N,) tokens chosen for sequences of any strategies that only sample, all of them together.

    `which` (N,) are the indices of the sequences' strategies.
    """
    tokens = torch.empty(len(which), dtype=torch.long, device=raw.logits.device)
    for group in by_order([one.samplers for one in strategies if one.samplers is not None]):
        place = {strategy: index for index, strategy in enumerate(group)}
        members = [n for n, strategy in enumerate(which) if strategy in place]
        some = sequences.select(members)
        distinct, indices = _distinct([(some.seen[i], place[which[n]]) for i, n in enumerate(members)])
        index = torch.tensor([row for row, _ in distinct], device=raw.logits.device)
        logits = raw.seen.select(index)
        of_rows = [strategy for _, strategy in distinct]
        chosen = [strategies[strategy] for strategy in group]
        drawn = _sample(chosen, logits, of_rows, indices, recorder, raw, batch, some)
        if len(members) == len(which):
            return drawn
        tokens[torch.tensor(members, device=tokens.device)] = drawn
    return tokens


def _sample(
    strategies: Sequence[Processors],
    logits: Logits,
    which: Sequence[int],
    indices: Sequence[int],
    recorder: Recorder,
    raw: RawStep,
    batch: BatchRows,
    sequences: Sequences,
    allowed_logprob: Tensor | None = None,
) -> Tensor:
    """Draw from what samplers make of (M, V) logits; `indices` (N,) are the sequences' rows in them.

    `allowed_logprob` (N,) is recorded.
    """
    device = logits.device
    assert sequences.keys is not None, "samplers are for sampling"
    settings = tuple(one.samplers for one in strategies if one.samplers is not None)
    states = _states(strategies, which, indices, batch, sequences, device)
    found = sampler_chain(settings, str(device))(logits, which, states)
    if strategies[0].after:  # then it is the only one
        rows_of = dict(zip(indices, sequences.rows, strict=True))
        texts = batch.texts([rows_of[index] for index in range(len(which))])
        found = after_samplers(strategies[0], texts, found, logits.values)
    tokens = torch.empty(len(sequences.numbers), dtype=torch.long, device=device)
    for drawable in found:
        row_of = {index: row for row, index in enumerate(drawable.rows)}
        members = [n for n, index in enumerate(indices) if index in row_of]
        some = sequences.select(members)
        rows = torch.tensor(some.rows, device=device)
        own_rows = [row_of[indices[n]] for n in members]
        own_index = torch.tensor(own_rows, device=device)
        keys = torch.tensor(some.keys, device=device)
        left = drawable.logits
        several = left.select(own_index) if isinstance(left, TruncatedLogits) else left[own_index]
        drawn = draw(several, keys, batch.step)
        own = None if allowed_logprob is None else allowed_logprob[torch.tensor(members, device=device)]
        recorder.observe(some.numbers, raw, rows, drawn, left, own_index, own)
        _update_states(strategies, [which[indices[n]] for n in members], drawable, own_index, drawn, some)
        if len(found) == 1:
            return drawn
        tokens[torch.tensor(members, device=device)] = drawn
    return tokens


def _states(
    strategies: Sequence[Processors],
    which: Sequence[int],
    indices: Sequence[int],
    batch: BatchRows,
    sequences: Sequences,
    device: torch.device,
) -> dict[str, Tensor]:
    """Return the parameters that differ by text, (M,) each, those of other strategies as they are set."""
    found: dict[str, Tensor] = {}
    first_of: dict[int, int] = {}
    for n, index in enumerate(indices):
        first_of.setdefault(index, n)
    for number, one in enumerate(strategies):
        if not one.state.needed:
            continue
        rows = [row for row, strategy in enumerate(which) if strategy == number]
        if not rows:
            continue
        members = [first_of[row] for row in rows]
        texts = batch.texts([sequences.rows[n] for n in members])
        values = one.state.parameters([sequences.numbers[n] for n in members], texts)
        places = torch.tensor(rows, device=device)
        for name, column in values.items():
            if name not in found:
                all_rows = [strategies[strategy].parameter(name) for strategy in which]
                found[name] = torch.tensor(all_rows, device=device)
            found[name][places] = column
    return found


def _update_states(
    strategies: Sequence[Processors],
    which: Sequence[int],
    drawable: Drawable,
    rows: Tensor,
    tokens: Tensor,
    sequences: Sequences,
) -> None:
    """Tell strategies with a state what was chosen; `which`, `rows` and `tokens` are the sequences'."""
    for number, one in enumerate(strategies):
        members = [n for n, strategy in enumerate(which) if strategy == number]
        if not one.state.updates or not members:
            continue
        index = torch.tensor(members, device=rows.device)
        logprobs = drawable.logprobs(rows[index], tokens[index]).tolist()
        one.state.update([sequences.numbers[n] for n in members], logprobs)


def _distinct(values: Sequence[Key]) -> tuple[list[Key], list[int]]:
    """Return the distinct values in order of appearance, and each value's index among them."""
    index_of = {value: index for index, value in enumerate(dict.fromkeys(values))}
    return list(index_of), [index_of[value] for value in values]


def _choose(logits: Tensor, sequences: Sequences, step: int) -> Tensor:
    if sequences.keys is None:
        return logits.argmax(dim=-1)
    return draw(logits, torch.tensor(sequences.keys, device=logits.device), step)
