"""Which watermark detectors read the outputs of each point of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.artifacts.job import Job
from harness.config.watermark_kinds import MarkDetector, WatermarkName, detector_of


def with_detectors(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs with a detector of each watermark that the sweep has.

    A point with a watermark has its own detector; the others have that of the first point with this
    watermark, whose scores of them are the control: what a detector finds where nothing is.
    """
    first: dict[WatermarkName, Job] = {}
    for job in jobs:
        if (own := detector_of(job.effective, 0)) is not None:
            first.setdefault(own.name, job)
    if not first:
        return list(jobs)
    found = []
    for job in jobs:
        own = detector_of(job.effective, 0)
        makers = [job if own is not None and own.name == name else maker for name, maker in first.items()]
        metrics = replace(job.metrics, detectors=tuple(_detectors(job, makers)))
        found.append(replace(job, metrics=metrics))
    return found


def _detectors(job: Job, makers: Sequence[Job]) -> list[MarkDetector]:
    """Return the detectors of some points' watermarks for a point, by its model's vocabulary."""
    vocabulary = job.target.info.vocab_size
    if vocabulary is None:
        return []
    found = (detector_of(maker.effective, vocabulary) for maker in makers)
    return [one for one in found if one is not None]
