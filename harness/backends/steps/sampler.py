"""How sequences choose their next token: from what their strategy makes of the logits, with shared noise."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from harness.backends.steps.recorder import RawStep, Recorder
from harness.decoding.branches import tokens_of_rank
from harness.decoding.gumbel import draw
from harness.decoding.logits import Logits
from harness.decoding.processors import Processors
from harness.decoding.sampler_chain import Drawable, StateOfRows, sampler_chain
from harness.decoding.texts import Texts
from harness.decoding.upload import on_device
from harness.decoding.warping import after_samplers

Key = TypeVar("Key", bound=Hashable)


class StepRows(Protocol):
    """The rows of a batch at a step, of which processors may read the texts."""

    @property
    def step(self) -> int:
        """Index of the token being chosen, from 0."""

    def texts(self, rows: Sequence[int]) -> Texts:
        """Return some of the rows as processors read them."""


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
        index = on_device(rows, self.ids.device)
        return Texts(self.ids[index], [self.prompt_tokens[row] for row in rows], self.width)


@dataclass(frozen=True)
class Sequences:
    """N sequences to choose a token for: their numbers in the recorder, and their rows of the batch.

    `keys` are their noise keys; None to take the likeliest token. `seen` are their rows of `RawStep.seen`,
    those of the batch where guidance has no rows of its own. `ranks` say which of its likeliest tokens each
    one begins with, 0 for the likeliest; None where all take the likeliest.
    """

    numbers: Sequence[int]
    rows: Sequence[int]
    keys: Sequence[int] | None
    seen: Sequence[int]
    ranks: Sequence[int] | None = None

    def noise_keys(self) -> Tensor:
        """Return their keys, (N,) int64, on the host."""
        assert self.keys is not None, "samplers are for sampling"
        return on_device(self.keys, "cpu")

    def select(self, members: Sequence[int]) -> Sequences:
        """Return some of them."""
        return Sequences(
            [self.numbers[n] for n in members],
            [self.rows[n] for n in members],
            None if self.keys is None else [self.keys[n] for n in members],
            [self.seen[n] for n in members],
            None if self.ranks is None else [self.ranks[n] for n in members],
        )


@dataclass(frozen=True)
class Choosing:
    """The sequences of one strategy at a step, and what it makes of logits."""

    processors: Processors
    sequences: Sequences


def choose_tokens(
    chosen: Sequence[Choosing],
    recorder: Recorder,
    raw: RawStep,
    batch: StepRows,
    failed: Callable[[int, Exception], Exception] = lambda _, error: error,
) -> list[Tensor]:
    """Choose a token for each sequence, and record what it was chosen from.

    What comes before the samplers is applied strategy by strategy; then all strategies are sampled together.

    Args:
        chosen: by strategy.
        recorder: sees the step.
        raw: the step's distributions.
        batch: the rows.
        failed: returns what is raised where the processors of a strategy (its index) raise an error.

    Returns:
        The tokens (N,) of each strategy's sequences.
    """
    chosen = [_with_noise(one, batch) for one in chosen]
    tokens: dict[int, Tensor] = {}
    together: dict[int, _Sampled] = {}
    processed: list[Tensor] = []
    start = raw.rows_seen
    for number, one in enumerate(chosen):
        try:
            if one.processors.only_samples:
                together[number] = _Sampled(one.sequences, None)
            elif one.processors.samplers is not None:
                warped, indices, allowed = _warped(one, raw, batch)
                seen = replace(one.sequences, seen=[start + index for index in indices])
                together[number] = _Sampled(seen, allowed)
                processed.append(warped)
                start += len(warped)
        except Exception as error:
            raise failed(number, error) from error
    if processed:
        raw = raw.with_rows(torch.cat(processed))
    alone = [number for number in together if chosen[number].processors.after]
    common = [number for number in together if number not in alone]
    for numbers in ([number] for number in alone):
        tokens |= _sampled(numbers, chosen, together, recorder, raw, batch)
    if common:
        tokens |= _sampled(common, chosen, together, recorder, raw, batch)
    for number, one in enumerate(chosen):
        if number not in together:
            try:
                tokens[number] = _unsampled(one, recorder, raw, batch)
            except Exception as error:
                raise failed(number, error) from error
    return [tokens[number] for number in range(len(chosen))]


def _with_noise(one: Choosing, batch: StepRows) -> Choosing:
    """Return a strategy whose sequences have the noise keys of its watermark, if that has any."""
    noise, sequences = one.processors.noise, one.sequences
    if noise is None or sequences.keys is None:
        return one
    keys = noise.keys(batch.texts(sequences.rows), sequences.keys)
    return replace(one, sequences=replace(sequences, keys=keys))


class _Sampled(NamedTuple):
    """Sequences to be sampled; `allowed_logprob` (N,) is recorded, None without a grammar."""

    sequences: Sequences
    allowed_logprob: Tensor | None


def _unsampled(one: Choosing, recorder: Recorder, raw: RawStep, batch: StepRows) -> Tensor:
    """Choose the tokens of a strategy without samplers."""
    sequences, device = one.sequences, raw.logits.device
    rows = on_device(sequences.rows, device)
    if one.processors.neutral:
        tokens = _choose(raw.logits, sequences.rows, sequences, batch.step)
        recorder.observe(sequences.numbers, raw, rows, tokens)
        return tokens
    warped, indices, allowed_logprob = _warped(one, raw, batch)
    warped_rows = on_device(indices, device)
    known = Logits(warped)
    tokens = _choose(known, indices, sequences, batch.step)
    recorder.observe(sequences.numbers, raw, rows, tokens, known, warped_rows, allowed_logprob)
    return tokens


def _warped(one: Choosing, raw: RawStep, batch: StepRows) -> tuple[Tensor, list[int], Tensor | None]:
    """Return what a strategy's processors make of its distinct rows, (M, V), and each sequence's row in it.

    Also the log of the raw probability of what a grammar allows, (N,); None without one.
    """
    device = raw.logits.device
    pairs = zip(one.sequences.rows, one.sequences.seen, strict=True)
    distinct, indices = _distinct(list(pairs))
    index = on_device(distinct, device)
    texts = batch.texts([row for row, _ in distinct])
    own = None
    if one.processors.structured and one.processors.guidance is not None:
        own = raw.logits.select(index[:, 0]).values
    copied = raw.seen.select(index[:, 1]).values
    warped = one.processors(texts, copied, own, overwrite=True)
    allowed = one.processors.allowed(texts, warped.shape[1])
    if allowed is None:
        return warped, indices, None
    logprob = raw.logprob_of(index[:, 0], allowed.to(device))
    return warped, indices, logprob[on_device(indices, device)]


def _sampled(
    numbers: Sequence[int],
    chosen: Sequence[Choosing],
    together: Mapping[int, _Sampled],
    recorder: Recorder,
    raw: RawStep,
    batch: StepRows,
) -> dict[int, Tensor]:
    """Draw for some strategies at once; return their tokens by number."""
    counts = [len(together[number].sequences.numbers) for number in numbers]
    which = [place for place, count in enumerate(counts) for _ in range(count)]
    sequences = _joined([together[number].sequences for number in numbers])
    distinct, indices = _distinct(list(zip(sequences.seen, which, strict=True)))
    logits = raw.seen.select(on_device([row for row, _ in distinct], raw.logits.device))
    strategies = [chosen[number].processors for number in numbers]
    of_rows = [strategy for _, strategy in distinct]
    allowed = _joined_allowed([together[number].allowed_logprob for number in numbers], counts)
    drawn = _sample(strategies, logits, of_rows, indices, recorder, raw, batch, sequences, allowed)
    return dict(zip(numbers, drawn.split(counts), strict=True))


def _joined(several: Sequence[Sequences]) -> Sequences:
    assert all(one.keys is not None for one in several), "samplers are for sampling"
    return Sequences(
        [number for one in several for number in one.numbers],
        [row for one in several for row in one.rows],
        [key for one in several for key in one.keys or ()],
        [row for one in several for row in one.seen],
    )


def _joined_allowed(several: Sequence[Tensor | None], counts: Sequence[int]) -> Tensor | None:
    """Return (N,) of all sequences, NaN where a strategy has no grammar; None where no one has."""
    given = next((one for one in several if one is not None), None)
    if given is None:
        return None
    pairs = zip(several, counts, strict=True)
    return torch.cat([given.new_full((n,), float("nan")) if one is None else one for one, n in pairs])


def _sample(
    strategies: Sequence[Processors],
    logits: Logits,
    which: Sequence[int],
    indices: Sequence[int],
    recorder: Recorder,
    raw: RawStep,
    batch: StepRows,
    sequences: Sequences,
    allowed_logprob: Tensor | None,
) -> Tensor:
    """Draw from what samplers make of (M, V) logits; `indices` (N,) are the sequences' rows in them.

    `allowed_logprob` (N,) is recorded.
    """
    device = logits.device
    assert sequences.keys is not None, "samplers are for sampling"
    settings = tuple(one.samplers for one in strategies if one.samplers is not None)
    states = _states(strategies, which, indices, batch, sequences)
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
        rows = on_device(some.rows, device)
        own_rows = [row_of[indices[n]] for n in members]
        own_index = on_device(own_rows, device)
        known = drawable.logits
        every = own_rows == list(range(len(drawable.rows)))
        drawn = draw(known if every else known.select(own_index), some.noise_keys(), batch.step)
        own = None if allowed_logprob is None else allowed_logprob[on_device(members, device)]
        recorder.observe(some.numbers, raw, rows, drawn, known, own_index, own)
        _update_states(strategies, [which[indices[n]] for n in members], drawable, own_index, drawn, some)
        if len(found) == 1:
            return drawn
        tokens[on_device(members, device)] = drawn
    return tokens


def _states(
    strategies: Sequence[Processors],
    which: Sequence[int],
    indices: Sequence[int],
    batch: StepRows,
    sequences: Sequences,
) -> list[StateOfRows]:
    """Return the parameters that differ by text, of the strategies that have any."""
    found = []
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
        numbers = [sequences.numbers[n] for n in members]
        found.append(StateOfRows(rows, one.state.parameters(numbers, texts)))
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
        index = on_device(members, rows.device)
        logprobs = drawable.logprobs(rows[index], tokens[index]).tolist()
        one.state.update([sequences.numbers[n] for n in members], logprobs)


def _distinct(values: Sequence[Key]) -> tuple[list[Key], list[int]]:
    """Return the distinct values in order of appearance, and each value's index among them."""
    index_of = {value: index for index, value in enumerate(dict.fromkeys(values))}
    return list(index_of), [index_of[value] for value in values]


def _choose(logits: Logits, rows: Sequence[int], sequences: Sequences, step: int) -> Tensor:
    """Choose a token for each sequence from its row of the logits."""
    index = on_device(rows, logits.device)
    if sequences.ranks is not None and step == 0:
        return tokens_of_rank(logits.select(index).values, sequences.ranks)
    if sequences.keys is None:
        return logits.first_best(index)
    every = list(rows) == list(range(len(logits)))
    return draw(logits if every else logits.select(index), sequences.noise_keys(), step)
