"""How texts choose their next token: by what their strategy makes of the scores, and by their luck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.backends.hf.recorder import Recorder, Seen
from harness.decoding.gumbel import draw
from harness.decoding.processors import Processors
from harness.decoding.scores import Scores
from harness.decoding.truncation import Cuts, truncations


@dataclass(frozen=True)
class Rows:
    """The batch at a step.

    Attributes:
        ids: (R, S) ids of all rows so far, prompts padded on the left to `width`.
        prompt_tokens: (R,) tokens of each row's prompt, padding not counted.
        width: padded length of the prompts.
        step: index of the token being chosen, from 0.
    """

    ids: Tensor
    prompt_tokens: Sequence[int]
    width: int
    step: int


@dataclass(frozen=True)
class Choosing:
    """The texts that choose.

    Attributes:
        texts: (N,) the recorder's numbers of them.
        standing: (N,) the row where each stands.
        keys: (N,) luck keys; None to take the likeliest token.
    """

    texts: Sequence[int]
    standing: Sequence[int]
    keys: Sequence[int] | None


def choose(processors: Processors, recorder: Recorder, seen: Seen, rows: Rows, those: Choosing) -> Tensor:
    """Let texts of one strategy choose, and record what they chose from.

    Returns:
        (N,) tokens.
    """
    if processors.only_cuts:
        return choose_cut([processors], [0] * len(those.texts), recorder, seen, rows, those)
    device = seen.scores.device
    at = torch.tensor(those.standing, device=device)
    if processors.neutral:
        tokens = _token(seen.scores.logits.index_select(0, at), those, rows.step)
        recorder.observe(those.texts, seen, at, tokens)
        return tokens
    distinct, places = _distinct(those.standing)
    index = torch.tensor(distinct, device=device)
    lengths = [rows.prompt_tokens[row] for row in distinct]
    warped = processors(rows.ids[index], seen.scores.of_rows(index).logits, lengths, rows.width)
    if processors.cuts is not None:
        cuts, which = [processors.cuts], [0] * len(distinct)
        return _cut(cuts, Scores(warped), which, places, recorder, seen, rows, those)
    at_place = torch.tensor(places, device=device)
    tokens = _token(warped.index_select(0, at_place), those, rows.step)
    recorder.observe(those.texts, seen, at, tokens, warped, at_place)
    return tokens


def choose_cut(
    strategies: Sequence[Processors],
    which: Sequence[int],
    recorder: Recorder,
    seen: Seen,
    rows: Rows,
    those: Choosing,
) -> Tensor:
    """Let texts choose whose strategies do nothing but truncate: all of them together.

    Args:
        strategies: the processors of each, `only_cuts`.
        which: (N,) each text's among them.
        recorder: sees the step.
        seen: the step's raw distributions, a row each.
        rows: the batch.
        those: the texts.

    Returns:
        (N,) tokens.
    """
    distinct, places = _distinct(list(zip(those.standing, which, strict=True)))
    index = torch.tensor([row for row, _ in distinct], device=seen.scores.device)
    scores = seen.scores.of_rows(index)
    cuts = [one.cuts for one in strategies if one.cuts is not None]
    return _cut(cuts, scores, [one for _, one in distinct], places, recorder, seen, rows, those)


def _cut(
    cuts: Sequence[Cuts],
    scores: Scores,
    which: Sequence[int],
    places: Sequence[int],
    recorder: Recorder,
    seen: Seen,
    rows: Rows,
    those: Choosing,
) -> Tensor:
    """Let texts draw from what cuts leave of (M, V) scores; `places` (N,) are theirs among these."""
    device = scores.device
    assert those.keys is not None, "truncations are for draws"
    parts = truncations(tuple(cuts), str(device))(scores, which)
    tokens = torch.empty(len(those.texts), dtype=torch.long, device=device)
    for some, kept in parts:
        place_in = {place: number for number, place in enumerate(some)}
        mine = [text for text, place in enumerate(places) if place in place_in]
        at = torch.tensor([those.standing[text] for text in mine], device=device)
        own = torch.tensor([place_in[places[text]] for text in mine], device=device)
        keys = torch.tensor([those.keys[text] for text in mine], device=device)
        drawn = draw(kept.of_rows(own), keys, rows.step)
        recorder.observe([those.texts[text] for text in mine], seen, at, drawn, kept, own)
        if len(parts) == 1:
            return drawn
        tokens[torch.tensor(mine, device=device)] = drawn
    return tokens


def _distinct(those: Sequence) -> tuple[list, list[int]]:
    """What there is, each once, and the place of each among it."""
    place_of = {one: place for place, one in enumerate(dict.fromkeys(those))}
    return list(place_of), [place_of[one] for one in those]


def _token(scores: Tensor, those: Choosing, step: int) -> Tensor:
    if those.keys is None:
        return scores.argmax(dim=-1)
    return draw(scores, torch.tensor(those.keys, device=scores.device), step)
