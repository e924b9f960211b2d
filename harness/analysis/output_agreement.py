"""How far the outputs of a sweep's points agree, pair by pair: the share of tokens before they diverge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.analysis.point_results import PointResult
from harness.store.stored_point import StoredPoint
from harness.store.token_table import TokenVocabulary, read_blocks

MOST_POINTS = 60
"""Points of a matrix that can still be read."""

MOST_TOKENS = 4_000_000
"""Tokens that are compared at most; prompts after these are left out."""

_Outputs = dict[tuple[str, int], np.ndarray]
"""By prompt id and sample, a number for each token or word."""


@dataclass(frozen=True)
class Agreement:
    """The agreement of every pair of points.

    Attributes:
        matrix: (P, P) of the points, 0 to 1; NaN where two have no prompt in common.
        unit: what was compared.
        prompts: how many of all prompts were.
    """

    matrix: np.ndarray
    unit: Literal["token", "word"]
    prompts: int


def agreement(points: Sequence[PointResult]) -> Agreement | None:
    """Return the mean over prompts of the agreement of the points' outputs, each a mean over its samples.

    Tokens are compared by their texts, so that models with different tokenizers are comparable; words where a
    point has no tokens. None for a single point, and for more than MOST_POINTS.
    """
    stored = [p.stored for p in points]
    if not 1 < sum(one is not None for one in stored) <= len(points) <= MOST_POINTS:
        return None
    prompts = _prompts_that_fit([one for one in stored if one])
    numbers: dict[str, int] = {}
    outputs = [_tokens(one, prompts, numbers) if one else {} for one in stored]
    in_tokens = None not in outputs
    if not in_tokens:
        numbers = {}
        outputs = [_words(one, prompts, numbers) if one else {} for one in stored]
    matrix = mean_agreement([one or {} for one in outputs])
    return Agreement(matrix, "token" if in_tokens else "word", len(prompts))


def mean_agreement(outputs: Sequence[Mapping[tuple[str, int], np.ndarray]]) -> np.ndarray:
    """Return the (P, P) means over prompts of means over samples of `pairwise_agreement`; NaN without any."""
    shape = (len(outputs), len(outputs))
    totals, counts = np.zeros(shape), np.zeros(shape)
    samples: dict[str, list[int]] = {}
    for prompt_id, sample in dict.fromkeys(key for one in outputs for key in one):
        samples.setdefault(prompt_id, []).append(sample)
    for prompt_id, indices in samples.items():
        each = np.array([pairwise_agreement([one.get((prompt_id, i)) for one in outputs]) for i in indices])
        known = np.isfinite(each).sum(axis=0)
        mean = np.nansum(each, axis=0) / np.maximum(known, 1)
        totals += np.where(known > 0, mean, 0)
        counts += known > 0
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def pairwise_agreement(outputs: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return (P, P): the length of the common prefix of two outputs over that of the longer one.

    1 for equal outputs, two empty ones among them; NaN where one is None. Outputs are 1-d arrays of numbers
    that are not negative, of P points.
    """
    lengths = np.array([0 if one is None else len(one) for one in outputs])
    padded = np.full((len(outputs), int(lengths.max(initial=0)) + 1), -1, np.int64)
    for row, one in zip(padded, outputs, strict=True):
        if one is not None:
            row[: len(one)] = one
    found = np.empty((len(outputs), len(outputs)))
    for i, row in enumerate(padded):
        different = padded != row
        first = np.where(different.any(axis=1), different.argmax(axis=1), lengths[i])
        longer = np.maximum(lengths, lengths[i])
        found[i] = np.where(longer > 0, np.minimum(first, longer) / np.maximum(longer, 1), 1.0)
    missing = [i for i, one in enumerate(outputs) if one is None]
    found[missing], found[:, missing] = np.nan, np.nan
    return found


def _prompts_that_fit(stored: Sequence[StoredPoint]) -> list[str]:
    """Return the prompts, in order, as far as their outputs have MOST_TOKENS tokens."""
    tokens: dict[str, int] = {}
    for one in stored:
        columns = one.columns("generations", ["prompt_id", "output_tokens"])
        for prompt_id, count in zip(columns["prompt_id"], columns["output_tokens"], strict=True):
            tokens[prompt_id] = tokens.get(prompt_id, 0) + (count or 1)
    total = np.cumsum(list(tokens.values()))
    return list(tokens)[: max(1, int((total <= MOST_TOKENS).sum()))]


def _tokens(stored: StoredPoint, prompts: Sequence[str], numbers: dict[str, int]) -> _Outputs | None:
    """Return the outputs as numbers of their tokens' texts; new ones are added to `numbers`.

    None where the point's tokens have no texts.
    """
    vocabulary, found = TokenVocabulary(), _Outputs()
    for block in read_blocks(stored, "tokens", ["token"], prompts=prompts, vocabulary=vocabulary):
        texts = vocabulary.texts
        for steps in block:
            distinct, inverse = np.unique(steps["token"], return_inverse=True)
            own = np.array([numbers.setdefault(texts[token], len(numbers)) for token in distinct], np.int64)
            key = (steps.prompt_id, steps.sample)
            found[key] = np.concatenate([found.get(key, np.empty(0, np.int64)), own[inverse.reshape(-1)]])
    if not any(vocabulary.texts):
        return None
    # A sample without tokens has no rows there.
    columns = stored.columns("generations", ["prompt_id", "sample"], [("prompt_id", "in", list(prompts))])
    for key in zip(columns["prompt_id"], columns["sample"], strict=True):
        found.setdefault(key, np.empty(0, np.int64))
    return found


def _words(stored: StoredPoint, prompts: Sequence[str], numbers: dict[str, int]) -> _Outputs:
    """Return the outputs as numbers of their words; new ones are added to `numbers`."""
    names, wanted = ("prompt_id", "sample", "output"), set(prompts)
    return {
        (row["prompt_id"], row["sample"]): np.array(
            [numbers.setdefault(word, len(numbers)) for word in (row["output"] or "").split()], np.int64
        )
        for rows in stored.row_batches("generations", 4096, names)
        for row in rows
        if row["prompt_id"] in wanted
    }
