"""What the run of a sweep gets of its reports, as plain values: another process can log it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.analysis.metric_catalog import Metric, metrics_from_json, metrics_to_json
from harness.report.key_metrics import key_metrics
from harness.report.write import Written
from harness.tracking.description import description
from harness.tracking.parent_facts import PromptSet, charted, command_of, parent_metrics, prompt_sets


@dataclass(frozen=True)
class SweepAnswer:
    """What the reports of a sweep say, as its run in MLflow has it.

    Attributes:
        note: its description, in Markdown.
        goal: key of the metric that the sweep is about; empty without one.
        key_metrics: most important first.
        charted: keys of those that MLflow charts.
        parent_metrics: best value and spread of each, by MLflow's key.
        prompt_sets: that its points read.
    """

    note: str
    goal: str
    key_metrics: tuple[Metric, ...]
    charted: frozenset[str]
    parent_metrics: Mapping[str, float]
    prompt_sets: tuple[PromptSet, ...]

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "note": self.note,
            "goal": self.goal,
            "key_metrics": metrics_to_json(self.key_metrics),
            "charted": sorted(self.charted),
            "parent_metrics": dict(self.parent_metrics),
            "prompt_sets": [asdict(one) for one in self.prompt_sets],
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> SweepAnswer:
        """Return the answer that `as_json` wrote."""
        metrics = metrics_from_json({"own": facts["key_metrics"]})
        return cls(
            note=facts["note"],
            goal=facts["goal"],
            key_metrics=tuple(metrics.values()),
            charted=frozenset(facts["charted"]),
            parent_metrics=facts["parent_metrics"],
            prompt_sets=tuple(PromptSet(**one) for one in facts["prompt_sets"]),
        )


def answer_of(written: Written, folder: Path) -> SweepAnswer:
    """Return the answer of a sweep's reports; `folder` is the sweep's, which has its command."""
    answer = written.comparison.answer
    goal = (answer.goal if answer else None) or ""
    runs = [p for p in written.points if not p.selected_from]
    metrics = key_metrics(runs, goal)
    return SweepAnswer(
        note=description(written.points, written.comparison, command_of(folder)),
        goal=goal,
        key_metrics=metrics,
        charted=frozenset(metric.key for metric in metrics if charted(metric, runs)),
        parent_metrics=parent_metrics(written.points, written.comparison),
        prompt_sets=tuple(prompt_sets(runs)),
    )
