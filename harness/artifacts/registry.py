"""Every artifact of a point, in the order in which they are made; and which of them a point lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.artifacts.artifact import Artifact
from harness.artifacts.cost import Cost
from harness.artifacts.drift.along_samples import DriftAlongSamples
from harness.artifacts.drift.fixed_text import DriftOnFixedText
from harness.artifacts.drift.reference import ReferenceDistributions
from harness.artifacts.environment import Environment
from harness.artifacts.inventory import Inventory
from harness.artifacts.job import Job
from harness.artifacts.metrics import Metrics
from harness.artifacts.noise import NoiseFloor
from harness.artifacts.prompt_scores import PromptScores
from harness.artifacts.samples import Samples
from harness.artifacts.speculation import Speculation
from harness.artifacts.speculation_timing import SpeculationTiming
from harness.artifacts.timing import Timing
from harness.store.stored_point import StoredPoint

ARTIFACTS: tuple[Artifact, ...] = (
    Samples(),
    PromptScores(),
    Timing(),
    Cost(),
    NoiseFloor(),
    ReferenceDistributions(),
    DriftAlongSamples(),
    DriftOnFixedText(),
    Speculation(),
    SpeculationTiming(),
    Environment(),
    Metrics(),
)


def inventory(outputs: Path, thorough: bool = False) -> Inventory:
    """Return what the store holds; large files are read only with `thorough`."""
    return Inventory(outputs, ARTIFACTS, thorough)


def missing(job: Job, outputs: Path, held: Inventory | None = None) -> tuple[Artifact, ...]:
    """Return the artifacts that are requested of a job and that the store lacks, in the order of making.

    `held` is what the store holds, where that is known already.
    """
    held = held or inventory(outputs)
    found: dict[str, Artifact] = {}
    for artifact in ARTIFACTS:
        outdated = artifact.spec(job) is not None and not found.keys().isdisjoint(artifact.after)
        if outdated or artifact.is_missing(job, held):
            found[artifact.name] = artifact
    return tuple(found.values())


def actions(lacking: Sequence[Artifact]) -> tuple[str, ...]:
    """Return what is to be done for missing artifacts, without those that are implied by another."""
    names = {artifact.name for artifact in lacking}
    return tuple(
        artifact.action for artifact in lacking if not artifact.implied or names.isdisjoint(artifact.after)
    )


def point_files() -> tuple[str, ...]:
    """Return the files of a point's folder, all artifacts together."""
    return tuple(dict.fromkeys(name for artifact in ARTIFACTS for name in artifact.files))


def outdate(job: Job, lacking: Sequence[Artifact], stored: StoredPoint) -> None:
    """Take what is about to be made anew out of a point's parts.json, so that it counts only once complete.

    With engine.fresh everything that the store holds of the point goes, requested or not.
    """
    parts = stored.parts()
    names = {artifact.name for artifact in lacking}
    dropped = names
    changing = {file for artifact in lacking for file in artifact.files}
    if job.point.engine.fresh and Samples.name in names:
        dropped = set(parts)
        for artifact in ARTIFACTS:
            if artifact.name not in names:
                for file in artifact.files:
                    changing.add(file)
                    stored.path(file).unlink(missing_ok=True)
    if not dropped.isdisjoint(parts):
        left = {name: spec for name, spec in parts.items() if name not in dropped}
        stored.write_parts(left, unsealed=changing)


def dependents(artifact: Artifact) -> set[str]:
    """Return the names of the artifacts that are computed from an artifact."""
    return {other.name for other in ARTIFACTS if artifact.name in other.after}
