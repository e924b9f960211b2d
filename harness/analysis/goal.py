"""The metric that a sweep's question is about."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.metric_catalog import Metric
from harness.analysis.sentence import Sentence
from harness.store.sweeps import Sweep

DEFAULTS = ("reference/chrf", "reference/rouge_l", "reference/exact_match")
"""Without `compare.goal`: the first of them that was measured, which is where prompts have references."""

ANSWERS = "reference/answer_match"
"""The first of them where the user says what an answer is."""

ALIAS = ("quality/", "reference/")
"""Metrics that compare with a reference are also known by the section under which MLflow has them."""


def goal_of(sweep: Sweep, metrics: Sequence[Metric]) -> tuple[Metric | None, Sentence | None]:
    """Return the goal, and a sentence about what is wrong with the one that is wanted.

    `compare.goal` is a metric's key or its last part. Without one it is a metric with references (whether
    answers are right, where `compare.answer_pattern` says what an answer is), else the first custom metric
    that has a better direction.
    """
    wanted = sweep.compare.get("goal")
    if not wanted:
        by_key = {metric.key: metric for metric in metrics}
        custom = [metric for metric in metrics if metric.key.startswith("own/") and metric.better]
        first = (ANSWERS, *DEFAULTS) if sweep.compare.get("answer_pattern") else DEFAULTS
        return next((by_key[key] for key in first if key in by_key), custom[0] if custom else None), None
    key = str(wanted).replace(*ALIAS, 1) if str(wanted).startswith(ALIAS[0]) else str(wanted)
    found = [metric for metric in metrics if metric.key == key]
    found = found or [metric for metric in metrics if metric.key.rpartition("/")[2] == key]
    if not found:
        return None, Sentence("No goal", (f"compare.goal={wanted}: no run has this metric.",), tone="bad")
    if found[0].better is None:
        reason = "neither a higher nor a lower value is better"
        return None, Sentence("No goal", (f"compare.goal={found[0].key}: {reason}.",), tone="bad")
    return found[0], None
