"""Which metrics are asked of a point: what a stored point's metrics must equal to be taken for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.analysis.metrics.custom import CustomMetric
from harness.store.address import digest

METRICS_VERSION = 1
"""Raise it when a metric is added or defined otherwise: stored points then get theirs anew, nothing else."""


@dataclass(frozen=True)
class RequestedMetrics:
    """The metrics of a point beside the built-in ones.

    Attributes:
        own: metrics of one's own.
        references: by prompt id, of the prompts that have one.
    """

    own: tuple[CustomMetric, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)

    def part(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """The entry `metrics` of the parts.json of a point with these metrics.

        Args:
            parts: of the point as it is; its timing and its drift are in metrics.json too.
        """
        return {
            "version": METRICS_VERSION,
            "own": {metric.name: metric.code for metric in self.own},
            "references": self._references,
            "timing": parts.get("timing"),
            "drift": [parts.get("drift"), parts.get("drift_text")],
        }

    @cached_property
    def _references(self) -> str | None:
        return digest(dict(self.references)) if self.references else None
