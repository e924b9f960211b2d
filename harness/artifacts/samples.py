"""The samples of a point: its texts, and what was recorded of every token.

Jobs that stand at the same prompts are decoded together, batch by batch. A batch is kept as soon as it is
complete (`store/partial.py`), so that a process that dies loses the batch in flight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from harness.artifacts.artifact import Artifact, Workbench, complete
from harness.artifacts.job import Job
from harness.errors import SweepEndedError
from harness.store.reference_index import forget


class Samples(Artifact):
    """generations.parquet, tokens.parquet, times.parquet; of a server, requests.parquet."""

    name = "record"
    action = "decode"
    files = ("generations.parquet", "requests.parquet", "times.parquet", "tokens.parquet")
    optional = ("requests.parquet", "times.parquet")
    per_family = True

    def spec(self, job: Job) -> Any:
        """Return how deeply steps are recorded."""
        return {"top_k": job.point.record.top_k}

    def covers(self, stored: Any, requested: Any) -> bool:
        """Return whether at least as many alternatives were recorded."""
        return bool(stored["top_k"] >= requested["top_k"])

    def make_family(self, jobs: Sequence[Job], bench: Workbench) -> Mapping[int, Exception]:
        """Decode jobs together.

        Jobs with one address differ in what is timed or recorded only: the deepest recording serves all.
        """
        deepest = _deepest(jobs)
        try:
            failed: Mapping[str, Exception] = _decode(list(deepest.values()), bench, self)
        except SweepEndedError:
            raise
        except Exception as error:
            failed = dict.fromkeys(deepest, error)
        return {index: failed[job.point_id] for index, job in enumerate(jobs) if job.point_id in failed}


def _decode(jobs: Sequence[Job], bench: Workbench, artifact: Samples) -> dict[str, Exception]:
    """Decode jobs of distinct addresses; return the errors of those that failed, by address."""
    from harness.artifacts.family_decoding import FamilyDecoding

    family = FamilyDecoding(jobs, bench)
    family.begin()
    for partial in family.partials.values():
        forget(partial.stored)
    family.decode(wait=True)
    with bench.team.alone(bench.turns.pause) if bench.team else nullcontext():
        if bench.team:
            family.check()
        for job in jobs:
            if job.point_id not in family.failed:
                partial = family.partials[job.point_id]
                partial.merge(family.batches)
                facts = {"fused_points": len(jobs)} | family.usage(job.point_id)
                complete(bench.stored(job), artifact, {"top_k": job.point.record.top_k}, facts=facts)
                partial.clear()
    return family.failed


def help_decode(jobs: Sequence[Job], bench: Workbench) -> bool:
    """Decode batches of jobs whose locks another worker of the team holds.

    Returns:
        Whether each batch is there now, or somebody has it. If not, whoever has the jobs' locks is not of the
        team, or did not begin to decode yet, or is done.
    """
    from harness.artifacts.family_decoding import FamilyDecoding

    assert bench.team is not None
    family = FamilyDecoding(list(_deepest(jobs).values()), bench)
    with bench.team.helping() as possible:
        if not (possible and family.join()):
            return False
        family.decode(wait=False)
    return True


def _deepest(jobs: Sequence[Job]) -> dict[str, Job]:
    """Return the job with the deepest recording of each address, in the jobs' order."""
    deepest: dict[str, Job] = {}
    for job in sorted(jobs, key=lambda job: -job.point.record.top_k):
        deepest.setdefault(job.point_id, job)
    return {job.point_id: job for job in jobs if deepest[job.point_id] is job}
