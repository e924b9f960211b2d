"""The metrics of a point's samples, and the errors of their means."""

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
