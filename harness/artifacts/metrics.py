"""The metrics of a point, computed from its tables without a model: metrics.json, drift.json, and columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.artifacts.artifact import Artifact, Workbench
from harness.artifacts.job import Job

if TYPE_CHECKING:
    from harness.artifacts.inventory import Inventory


class Metrics(Artifact):
    """metrics.json, drift.json, and the metric columns of generations.parquet."""

    name = "metrics"
    action = "metrics"
    files = ("drift.json", "metrics.json")
    optional = ("drift.json",)
    after = ("record", "timing", "cost", "drift", "drift_text", "speculation", "speculation_timing")
    needs_backend = False
    implied = True

    def spec(self, job: Job) -> Any:
        """Return which metrics are requested, and of which version."""
        return job.metrics.spec({})

    def is_missing(self, job: Job, inventory: Inventory) -> bool:
        """Return whether they are missing, or of other artifacts than the store holds now."""
        parts = inventory.parts(job.point_id)
        return bool(parts.get(self.name) != job.metrics.spec(parts))

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Compute them."""
        from harness.artifacts.compute_metrics import add_metrics

        bench.progress.stage(f"metrics of {job.point.label}", job.samples, "samples")
        add_metrics(bench.stored(job), job.metrics, bench.progress.advance, files=self.files)
        return ()
