"""Fetch the weights that a sweep needs before workers start, which may have no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.artifacts.job import Job
from harness.config.guided_fields import amateur_id
from harness.models.hub import fetch_weights
from harness.models.model_files import ModelFiles
from harness.plan.plan import Plan
from harness.progress import Progress, StagesInPercent


def fetch_weights_first(plan: Plan, progress: Progress) -> None:
    """Fetch what the groups with something to do would fetch themselves, each checkpoint once.

    Raises:
        ConfigError: a checkpoint cannot be fetched.
    """
    on_progress = StagesInPercent(progress)
    seen = set()
    for job, lacking in zip(plan.jobs, plan.missing, strict=True):
        if not any(artifact.needs_backend for artifact in lacking):
            continue
        for files in _checkpoints(job):
            if files.revision is not None and (files.id, files.revision) not in seen:
                seen.add((files.id, files.revision))
                fetch_weights(
                    files.id,
                    files.revision,
                    files.weight_files,
                    lambda name, fraction: on_progress(f"fetching {name}", fraction),
                )


def fetched_weights(job: Job) -> Iterator[Path]:
    """Yield where the weights that a job needs of the hub lie on this machine, there or not."""
    for files in _checkpoints(job):
        if files.revision is not None:
            yield from (files.folder / name for name in files.weight_files)


def _checkpoints(job: Job) -> Iterator[ModelFiles]:
    second = {amateur_id(job.effective), *(draft.model for draft in job.drafts)} - {None, ""}
    yield from job.target.checkpoints(sorted(str(name) for name in second))
