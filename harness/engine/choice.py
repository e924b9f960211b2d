"""How texts choose their next token: by what their strategy makes of the scores, and by their luck."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.decoding.luck import draw
from harness.decoding.processors import Processors
from harness.decoding.truncation import Kept
from harness.engine.recorder import Recorder, Seen


def choose(
    processors: Processors,
    recorder: Recorder,
    seen: Seen,
    *,
    texts: Sequence[int],
    standing: Sequence[int],
    keys: Tensor | None,
    step: int,
    ids: Tensor,
    prompt_tokens: Sequence[int],
    width: int,
) -> Tensor:
    """Let texts of one strategy choose, and record what they chose from.

    Args:
        processors: the strategy's.
        recorder: sees the step.
        seen: the step's raw distributions, a row each.
        texts: (N,) the recorder's numbers of the texts.
        standing: (N,) the row where each text stands.
        keys: (N,) int64 luck keys, or None to take the likeliest token.
        step: index of the token being chosen, from 0.
        ids: (R, S) ids of all rows so far, prompts padded on the left to `width`.
        prompt_tokens: tokens of each row's prompt, padding not counted.
        width: padded length of the prompts.

    Returns:
        (N,) tokens.
    """
    device = seen.scores.device
    rows = torch.tensor(standing, device=device)
    if processors.neutral:
        tokens = _token(seen.scores.logits.index_select(0, rows), keys, step)
        recorder.observe(texts, seen, rows, tokens)
        return tokens
    distinct = list(dict.fromkeys(standing))
    index = torch.tensor(distinct, device=device)
    lengths = [prompt_tokens[row] for row in distinct]
    warped = processors(ids[index], seen.scores.of_rows(index), lengths, width)
    place_of = {row: place for place, row in enumerate(distinct)}
    places = torch.tensor([place_of[row] for row in standing], device=device)
    own = warped
    if len(distinct) < len(standing):
        own = warped.of_rows(places) if isinstance(warped, Kept) else warped.index_select(0, places)
    tokens = _token(own, keys, step)
    recorder.observe(texts, seen, rows, tokens, warped, places)
    return tokens


def _token(scores: Tensor | Kept, keys: Tensor | None, step: int) -> Tensor:
    if keys is not None:
        return draw(scores, keys, step)
    if isinstance(scores, Kept):
        return scores.tokens.gather(1, scores.scores.argmax(dim=-1, keepdim=True))[:, 0]
    return scores.argmax(dim=-1)
