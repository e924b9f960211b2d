"""The metrics requested of a point, and what a stored point's metrics must have been computed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.analysis.metrics.custom import CustomMetric
from harness.analysis.metrics.extracted_answer import AnswerPattern
from harness.config.structure import Structure
from harness.config.watermark_kinds import MarkDetector
from harness.store.address import digest

METRICS_VERSION = 1
"""Raise it when a metric is added or its definition changes: stored points then get their metrics again."""


@dataclass(frozen=True)
class RequestedMetrics:
    """The metrics of a point beside the built-in ones, and what is stored of its prompts with them.

    Attributes:
        custom: the user's own metrics.
        references: by prompt id, of the prompts that have one.
        messages: by prompt id, the turns of the chat prompts, as JSON.
        structure: what the outputs must be; None where they may be anything.
        answers: how answers are found, which are compared with those of references; None where they are not.
        detectors: of watermarks, which read all outputs, marked or not.
    """

    custom: tuple[CustomMetric, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    structure: Structure | None = None
    answers: AnswerPattern | None = None
    detectors: tuple[MarkDetector, ...] = ()

    def prompt_columns(self) -> dict[str, Mapping[str, str]]:
        """Return the columns of generations.parquet that they add to a sample, by prompt id."""
        columns = {"reference": self.references, "messages": self.messages}
        return {name: values for name, values in columns.items() if values}

    def spec(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entry `metrics` in the `parts.json` of a point that has these metrics.

        metrics.json covers the timing, the cost, the drift and the speculation in `parts` too.
        """
        speculation = [parts.get("speculation"), parts.get("speculation_timing")]
        return {
            "version": METRICS_VERSION,
            "own": {metric.name: metric.code for metric in self.custom},
            "references": self._references,
            # Points without chat prompts keep the metrics that they have.
            **({"messages": self._messages} if self.messages else {}),
            **({"structure": [self.structure.name, self.structure.text]} if self.structure else {}),
            **({"answers": self.answers.facts} if self.answers and self.references else {}),
            **({"watermarks": self._detectors} if self.detectors else {}),
            "timing": parts.get("timing"),
            **({"cost": parts["cost"]} if "cost" in parts else {}),
            "drift": [parts.get("drift"), parts.get("drift_text")],
            **({"speculation": speculation} if any(speculation) else {}),
        }

    @property
    def _detectors(self) -> list[Any]:
        """The detectors as JSON has them."""
        return [
            [one.name, {key: list(v) if isinstance(v, tuple) else v for key, v in one.settings}]
            for one in self.detectors
        ]

    @cached_property
    def _references(self) -> str | None:
        return digest(dict(self.references)) if self.references else None

    @cached_property
    def _messages(self) -> str:
        return digest(dict(self.messages))
