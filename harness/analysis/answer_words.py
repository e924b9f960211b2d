"""Words that the sentences of an answer share: values, intervals, prompts."""

from __future__ import annotations

from harness.analysis.comparison import Comparison
from harness.analysis.metric_catalog import Metric
from harness.analysis.swept import BestSet


def value_text(metric: Metric, value: float) -> str:
    """Return a value of a metric with its unit."""
    return metric.format(value) + (f" {metric.unit}" if metric.unit else "")


def bounds_text(metric: Metric, low: float | None, high: float | None) -> str:
    """Return an interval of a metric, `[0.9, 4.7]`."""
    return f"[{metric.format(low)}, {metric.format(high)}]"


def extreme_of(metric: Metric) -> str:
    """Return what the best value is: `highest` or `lowest`."""
    return "highest" if metric.better == "higher" else "lowest"


def counted(prompts: int) -> str:
    """Return `1 prompt`, `20 prompts`."""
    return f"{prompts:,} prompt{'s' * (prompts != 1)}"


def common_prompts(metric: Metric, best: BestSet, comparison: Comparison) -> str:
    """Return over which prompts points are ranked, where their values in the table are over others too."""
    shown = {
        label: cells[metric.key].value for label, cells in comparison.cells.items() if metric.key in cells
    }
    differ = any(
        metric.format(value) != metric.format(shown[label])
        for label, value in best.values.items()
        if label in shown
    )
    return f" over the {counted(best.prompts)} that all runs have" if differ else ""
