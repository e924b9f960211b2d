"""What a reference keeps for the points that are compared with it: its distributions along texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts.artifact import Artifact, Workbench
from harness.artifacts.drift.along_samples import DriftAlongSamples, sample_passages, share_of_budget
from harness.artifacts.job import Job
from harness.artifacts.samples import Samples
from harness.prompts.passages import Passage
from harness.store.reference_index import heads_folder, read_index, samples_folder, text_folder
from harness.store.stored_point import stored_point

if TYPE_CHECKING:
    from harness.artifacts.inventory import Inventory


class ReferenceDistributions(Artifact):
    """The folder `drift/` of a point, and `outputs/drift/texts/<key>/`; not listed in parts.json."""

    name = "reference"
    action = "keep distributions"

    def spec(self, job: Job) -> Any:
        """Return the points that are compared with this one."""
        return list(job.drift.dependents) or None

    def is_missing(self, job: Job, inventory: Inventory) -> bool:
        """Return whether a dependent still lacks its drift, and too little is kept to compute it."""
        outputs = inventory.outputs
        fresh, share = job.point.engine.fresh, share_of_budget(job, job.tokens)
        wanted = {"reference": job.point_id, "top_k": job.point.record.top_k, "share": share}
        dependents = [inventory.parts(point_id) for point_id in job.drift.dependents]

        def lacks(parts: dict[str, Any]) -> bool:
            known = parts.get(DriftAlongSamples.name)
            return fresh or known is None or not DriftAlongSamples().covers(known, wanted)

        folder = samples_folder(stored_point(outputs, job.point_id))
        # Samples that are decoded again lose what was kept along them.
        anew = fresh or Samples().is_missing(job, inventory)
        if any(map(lacks, dependents)) and (anew or _keeps_too_little(folder, share)):
            return True
        role = job.drift.fixed_text
        if role is None or all(
            parts.get("drift_text", {}).get("reference") == role.key for parts in dependents
        ):
            return False
        text_share = share_of_budget(job, role.text.tokens)
        return fresh or _keeps_too_little(text_folder(outputs, role.key), text_share)

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Keep the distributions along the point's own samples, and along the sweep's fixed text."""
        distributions, role = bench.backend.distributions, job.drift.fixed_text
        if distributions is None:
            return ()

        def keep(passages: Iterator[Passage], folder: Path, tokens: int) -> None:
            bench.progress.stage(f"drift of {job.point.label}", tokens, "tokens")
            distributions.keep_reference(
                passages,
                folder,
                heads_folder(bench.outputs),
                positions=tokens,
                together=job.drift.together,
                budget=int(job.point.drift.budget_mb * 2**20),
                share=share_of_budget(job, tokens),
                progress=bench.progress,
            )

        stored = bench.stored(job)
        keep(sample_passages(stored, job.prompts), samples_folder(stored), job.tokens)
        if role is not None:
            folder, tokens = text_folder(bench.outputs, role.key), role.text.tokens
            if _keeps_too_little(folder, share_of_budget(job, tokens)):
                keep(iter(role.text.passages), folder, tokens)
        return ()


def _keeps_too_little(folder: Path, share: int) -> bool:
    """Return whether this share of the budget would keep more than the folder has."""
    found = read_index(folder)
    return found is None or ((found.left_out > 0 or not found.exact) and found.share < share)
