"""The metrics of a sweep's samples, averaged by prompt: what comparisons of points are computed from.

Points are paired by prompt. Their samples share their noise, so the means of a prompt's samples share it too;
more samples make a prompt's mean more exact, more prompts the mean over prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.point_results import PointResult
from harness.analysis.sample_table import SampleTable

PromptKey = tuple[str, str | None]
"""A prompt's id, and its text where points of several prompt sets could give one id to two texts."""


@dataclass(frozen=True)
class PromptValues:
    """The metrics of P points by prompt.

    Attributes:
        prompts: (N,) keys of all prompts.
        row_of: index of each point by label.
        present: (P, N) whether a point has samples of a prompt.
        means: (P, N) mean over the samples of a point and prompt, by column of generations.parquet; NaN
            without any.
    """

    prompts: tuple[PromptKey, ...]
    row_of: Mapping[str, int]
    present: np.ndarray
    means: Mapping[str, np.ndarray]

    def of(self, column: str, labels: Sequence[str]) -> np.ndarray:
        """Return (len(labels), N) means of some points."""
        return self.means[column][[self.row_of[label] for label in labels]]


def prompt_values(points: Sequence[PointResult], samples: Mapping[str, SampleTable]) -> PromptValues:
    """Return the means by prompt of completed points, whose samples have been read."""
    several_sets = len({p.point.prompts for p in points}) > 1
    keys = [_keys(p, samples[p.point.label], several_sets) for p in points]
    index_of = {key: i for i, key in enumerate(dict.fromkeys(key for some in keys for key in some))}
    columns = dict.fromkeys(name for p in points for name in samples[p.point.label].columns)
    means = {name: np.full((len(points), len(index_of)), np.nan) for name in columns}
    present = np.zeros((len(points), len(index_of)), dtype=bool)
    for row, (p, some) in enumerate(zip(points, keys, strict=True)):
        table = samples[p.point.label]
        where = np.array([index_of[key] for key in some], dtype=np.int64)
        present[row, where] = True
        for name, values in table.columns.items():
            means[name][row, where] = group_means(values, table.prompt, len(some))
    return PromptValues(tuple(index_of), {p.point.label: i for i, p in enumerate(points)}, present, means)


def group_means(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Return (groups,) the mean of the finite values of each group; NaN without any."""
    known = np.isfinite(values)
    counts = np.bincount(group[known], minlength=groups)
    sums = np.bincount(group[known], values[known], groups)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _keys(p: PointResult, table: SampleTable, several_sets: bool) -> list[PromptKey]:
    if not several_sets:
        return [(prompt_id, None) for prompt_id in table.prompt_ids]
    assert p.stored is not None
    rows = p.stored.columns("generations", ["prompt_id", "prompt"])
    text_of = dict(zip(*rows.values(), strict=True))
    return [(prompt_id, text_of[prompt_id]) for prompt_id in table.prompt_ids]
