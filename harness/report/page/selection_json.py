"""The curves over the number of samples as JSON of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.selection.over_samples import SelectionCurve
from harness.report.page.shell import short


def selection_charts(
    curves: Sequence[SelectionCurve], indices: Mapping[str, int], binary: Mapping[str, bool]
) -> list[dict[str, Any]]:
    """Return an entry for each run and metric, with [way, means, lows, highs] of each of its curves.

    Args:
        curves: those of one run and metric follow each other.
        indices: of the points in the page, by label.
        binary: whether a metric is 0 or 1 for each sample, by key; then the best of n is pass@n.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for curve in curves:
        if curve.label not in indices:
            continue
        entry = found.setdefault(
            (curve.label, curve.metric),
            {
                "point": indices[curve.label],
                "metric": curve.metric,
                "passes": binary.get(curve.metric, False),
                "sizes": list(curve.sizes),
                "prompts": curve.prompts,
                "ways": [],
            },
        )
        rows = (curve.means, curve.lows, curve.highs)
        entry["ways"].append([curve.way, *([short(value) for value in row] for row in rows)])
    return list(found.values())
