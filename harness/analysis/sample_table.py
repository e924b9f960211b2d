"""The metrics of samples: differences of two points paired by prompt and sample, and errors of means."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from harness.analysis.statistics.clusters import ratio_residuals
from harness.store.stored_point import StoredPoint
from harness.store.token_table import numpy_of


@dataclass(frozen=True)
class SampleTable:
    """The metrics of a point's samples.

    Attributes:
        prompt_ids: each prompt once; P of them.
        prompt: (n,) index of each sample's prompt in `prompt_ids`.
        sample: (n,) index among the samples of its prompt.
        tokens: (n,) number of generated tokens; NaN where it is not known.
        columns: (n,) float64 by column of generations.parquet; NaN where a sample has no value.
    """

    prompt_ids: tuple[str, ...]
    prompt: np.ndarray
    sample: np.ndarray
    tokens: np.ndarray
    columns: Mapping[str, np.ndarray]


def read_sample_table(stored: StoredPoint, columns: Collection[str]) -> SampleTable:
    """Return the columns of generations.parquet that the point has among these."""
    present = set(stored.schema("generations").names)
    wanted = [name for name in dict.fromkeys([*columns, "output_tokens"]) if name in present]
    table = stored.table("generations", ["prompt_id", "sample", *wanted])
    prompts = table["prompt_id"].combine_chunks().dictionary_encode()

    def numbers(name: str) -> np.ndarray:
        return numpy_of(table[name].combine_chunks()).astype(np.float64)

    return SampleTable(
        prompt_ids=tuple(prompts.dictionary.to_pylist()),
        prompt=numpy_of(prompts.indices).astype(np.int64),
        sample=numpy_of(table["sample"].combine_chunks()).astype(np.int64),
        tokens=numbers("output_tokens") if "output_tokens" in wanted else np.ones(len(table)),
        columns={name: numbers(name) for name in wanted if name in columns},
    )


def paired_differences(
    ours: SampleTable, theirs: SampleTable, allowed: Collection[str] | None = None
) -> tuple[int, dict[str, np.ndarray]]:
    """Return our values minus theirs, joined on prompt and sample, averaged within each prompt.

    `allowed` are the ids of the prompts that are the same in both; all prompts with equal ids when None.

    Returns:
        The number of common prompts, and by common column (P,) their differences; NaN without values.
    """
    indices = {name: i for i, name in enumerate(theirs.prompt_ids) if allowed is None or name in allowed}
    common = np.array([indices.get(prompt_id, -1) for prompt_id in ours.prompt_ids], dtype=np.int64)
    size = 1 + int(max(ours.sample.max(initial=0), theirs.sample.max(initial=0)))
    paired = common[ours.prompt] >= 0 if len(common) else np.zeros(0, dtype=bool)
    mine = np.flatnonzero(paired)
    keys = common[ours.prompt[mine]] * size + ours.sample[mine]
    _, left, right = np.intersect1d(keys, theirs.prompt * size + theirs.sample, return_indices=True)
    left = mine[left]
    prompts, group = np.unique(ours.prompt[left], return_inverse=True)
    return len(prompts), {
        name: _means(values[left] - theirs.columns[name][right], group, len(prompts))
        for name, values in ours.columns.items()
        if name in theirs.columns
    }


def mean_residuals(
    value: float, samples: SampleTable, column: str, weights: np.ndarray | None = None
) -> np.ndarray | None:
    """Return each prompt's contribution to the error of a mean over a point's samples: (P,), of mean 0.

    None where `value`, the point's metric, is no such mean of the column. (n,) `weights` of the samples are
    equal when None. See `ratio_residuals`.
    """
    values = samples.columns[column]
    known = np.isfinite(values) & (True if weights is None else np.isfinite(weights))
    weight = np.where(known, 1.0 if weights is None else weights, 0.0)
    clusters = len(samples.prompt_ids)
    mean, residuals = ratio_residuals(np.where(known, values, 0.0), samples.prompt, clusters, weight)
    return residuals if math.isclose(mean, value, rel_tol=1e-3, abs_tol=1e-6) else None


def same_prompts(ours: StoredPoint, theirs: StoredPoint) -> set[str]:
    """Return the ids under which two points of different prompt sets have the same text."""
    mine, other = (
        dict(zip(*stored.columns("generations", ["prompt_id", "prompt"]).values(), strict=True))
        for stored in (ours, theirs)
    )
    return {prompt_id for prompt_id, text in mine.items() if other.get(prompt_id) == text}


def _means(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Return (groups,) the mean of the finite values of each group; NaN without any."""
    known = np.isfinite(values)
    counts = np.bincount(group[known], minlength=groups)
    sums = np.bincount(group[known], values[known], groups)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
