"""Two points' samples side by side: differences paired by prompt and sample, and a point's own spread."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.store.stored_point import StoredPoint


@dataclass(frozen=True)
class Samples:
    """What a point's samples measured.

    Attributes:
        prompt_ids: each prompt once; P of them.
        prompt: (n,) place of each sample's prompt among them.
        sample: (n,) index among the samples of its prompt.
        tokens: (n,) how many were generated.
        columns: (n,) float64 by column of generations.parquet; NaN where a sample has no value.
    """

    prompt_ids: tuple[str, ...]
    prompt: np.ndarray
    sample: np.ndarray
    tokens: np.ndarray
    columns: Mapping[str, np.ndarray]


def read_samples(stored: StoredPoint, columns: Collection[str]) -> Samples:
    """Those of these columns that the point's generations have."""
    import pyarrow as pa

    there = set(stored.column_names("generations"))
    wanted = [name for name in dict.fromkeys([*columns, "output_tokens"]) if name in there]
    table = stored.table("generations", ["prompt_id", "sample", *wanted])
    prompts = table["prompt_id"].combine_chunks().dictionary_encode()

    def numbers(name: str) -> np.ndarray:
        return table[name].cast(pa.float64(), safe=False).to_numpy()

    return Samples(
        prompt_ids=tuple(prompts.dictionary.to_pylist()),
        prompt=prompts.indices.to_numpy().astype(np.int64),
        sample=table["sample"].to_numpy().astype(np.int64),
        tokens=numbers("output_tokens") if "output_tokens" in wanted else np.ones(len(table)),
        columns={name: numbers(name) for name in wanted if name in columns},
    )


def paired_differences(
    ours: Samples, theirs: Samples, allowed: Collection[str] | None = None
) -> tuple[int, dict[str, np.ndarray]]:
    """Our values less theirs, joined on prompt and sample, averaged within each prompt over its samples.

    Args:
        ours: the point's.
        theirs: of the point that it is held against.
        allowed: ids of the prompts that are the same ones in both; all of an equal id when None.

    Returns:
        How many prompts both have, and for each column that both have (P,) differences over those prompts;
        NaN for a prompt without a pair of values.
    """
    places = {
        prompt_id: place
        for place, prompt_id in enumerate(theirs.prompt_ids)
        if allowed is None or prompt_id in allowed
    }
    common = np.array([places.get(prompt_id, -1) for prompt_id in ours.prompt_ids], dtype=np.int64)
    size = 1 + int(max(ours.sample.max(initial=0), theirs.sample.max(initial=0)))
    there = common[ours.prompt] >= 0 if len(common) else np.zeros(0, dtype=bool)
    mine = np.flatnonzero(there)
    keys = common[ours.prompt[mine]] * size + ours.sample[mine]
    _, left, right = np.intersect1d(keys, theirs.prompt * size + theirs.sample, return_indices=True)
    left = mine[left]
    prompts, group = np.unique(ours.prompt[left], return_inverse=True)
    return len(prompts), {
        name: _means(values[left] - theirs.columns[name][right], group, len(prompts))
        for name, values in ours.columns.items()
        if name in theirs.columns
    }


def around(
    value: float, samples: Samples, column: str, weights: np.ndarray | None = None
) -> np.ndarray | None:
    """What each prompt adds to the error of a mean over a point's samples: (P,), of mean 0.

    The mean over all samples (or tokens) is a ratio of two sums over prompts; the interval of the mean of
    these residuals is, to first order, that of the ratio (Cochran 1977, Sampling Techniques, 6.3).

    Args:
        value: the point's metric.
        samples: its samples.
        column: where each has its own value.
        weights: (n,) how much each sample counts; alike when None.

    Returns:
        The residuals; None where the metric is no such mean of the column.
    """
    values = samples.columns[column]
    known = np.isfinite(values)
    weight = known * (np.ones(len(values)) if weights is None else weights)
    total = weight.sum()
    if not total or not math.isclose(
        float(np.where(known, values, 0) @ weight / total), value, rel_tol=1e-3, abs_tol=1e-6
    ):
        return None
    deviations = np.bincount(
        samples.prompt, weight * np.where(known, values - value, 0), len(samples.prompt_ids)
    )
    counted = np.bincount(samples.prompt, weight, len(samples.prompt_ids)) > 0
    return deviations[counted] * counted.sum() / total


def same_prompts(ours: StoredPoint, theirs: StoredPoint) -> set[str]:
    """Ids under which two points of different prompt sets have the same text."""
    mine, other = (
        dict(zip(*stored.columns("generations", ["prompt_id", "prompt"]).values(), strict=True))
        for stored in (ours, theirs)
    )
    return {prompt_id for prompt_id, text in mine.items() if other.get(prompt_id) == text}


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """(m, n) the rows one below the other, the short ones filled with NaN."""
    width = max((len(row) for row in rows), default=0)
    table = np.full((len(rows), width), np.nan)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table


def _means(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """(groups,) mean of the finite values of each group; NaN without any."""
    known = np.isfinite(values)
    counts = np.bincount(group[known], minlength=groups)
    sums = np.bincount(group[known], values[known], groups)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
