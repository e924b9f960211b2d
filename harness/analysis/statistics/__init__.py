"""Statistics that separate differences from chance: pure functions on NumPy arrays, each with its source."""

from harness.analysis.statistics.bootstrap import CONFIDENCE, Means, mean_intervals, stack_rows
from harness.analysis.statistics.effects import effect_share, level_means
from harness.analysis.statistics.multiple_comparisons import LEVEL, holm, verdict_of, word_of
from harness.analysis.statistics.pareto import pareto_front
from harness.analysis.statistics.welch import welch_interval

__all__ = [
    "CONFIDENCE",
    "LEVEL",
    "Means",
    "effect_share",
    "holm",
    "level_means",
    "mean_intervals",
    "pareto_front",
    "stack_rows",
    "verdict_of",
    "welch_interval",
    "word_of",
]
