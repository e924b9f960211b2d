"""What a reference keeps for the points that are compared with it: its distributions along texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.artifacts.artifact import Artifact, Workbench
from harness.artifacts.drift.along_samples import (
    DriftAlongSamples,
    distribution_backend,
    sample_passages,
    share_of_budget,
)
from harness.artifacts.job import Job
from harness.store.reference_index import (
    ReferenceIndex,
    heads_folder,
    read_index,
    samples_folder,
    text_folder,
)
from harness.store.stored_point import stored_point


class ReferenceDistributions(Artifact):
    """The folder `drift/` of a point, and `outputs/drift/texts/<key>/`; not listed in parts.json."""

    name = "reference"
    action = "keep distributions"

    def spec(self, job: Job) -> Any:
        """Return the points that are compared with this one."""
        return list(job.drift.dependents) or None

    def is_missing(self, job: Job, outputs: Path) -> bool:
        """Return whether a dependent still lacks its drift, and too little is kept to compute it."""
        fresh, share = job.point.engine.fresh, share_of_budget(job, job.tokens)
        wanted = {"reference": job.point_id, "top_k": job.point.record.top_k, "share": share}
        dependents = [stored_point(outputs, point_id).parts() for point_id in job.drift.dependents]

        def lacks(parts: dict[str, Any]) -> bool:
            known = parts.get(DriftAlongSamples.name)
            return fresh or known is None or not DriftAlongSamples().covers(known, wanted)

        if any(map(lacks, dependents)):
            found = read_index(samples_folder(stored_point(outputs, job.point_id)))
            if fresh or _keeps_too_little(found, share):
                return True
        role = job.drift.fixed_text
        if role is None or all(
            parts.get("drift_text", {}).get("reference") == role.key for parts in dependents
        ):
            return False
        found = read_index(text_folder(outputs, role.key))
        return fresh or _keeps_too_little(found, share_of_budget(job, role.text.tokens))

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Keep the distributions along the point's own samples, and along the sweep's fixed text."""
        backend = distribution_backend(bench)
        if backend is None:
            return ()
        stored, role = bench.stored(job), job.drift.fixed_text
        budget, heads = int(job.point.drift.budget_mb * 2**20), heads_folder(bench.outputs)
        bench.progress.stage(f"drift of {job.point.label}", job.tokens, "tokens")
        backend.keep_reference(
            sample_passages(stored, job.prompts),
            samples_folder(stored),
            heads,
            positions=job.tokens,
            together=job.drift.together,
            budget=budget,
            share=share_of_budget(job, job.tokens),
            progress=bench.progress,
        )
        if role is not None:
            folder, share = text_folder(bench.outputs, role.key), share_of_budget(job, role.text.tokens)
            found = read_index(folder)
            if found is None or (found.left_out and found.share < share):
                bench.progress.stage(f"drift of {job.point.label}", role.text.tokens, "tokens")
                backend.keep_reference(
                    iter(role.text.passages),
                    folder,
                    heads,
                    positions=role.text.tokens,
                    together=job.drift.together,
                    budget=budget,
                    share=share,
                    progress=bench.progress,
                )
        return ()


def _keeps_too_little(found: ReferenceIndex | None, share: int) -> bool:
    """Return whether a larger share of the budget would keep more than was kept."""
    if found is None:
        return True
    return (found.left_out > 0 or not found.exact) and found.share < share
