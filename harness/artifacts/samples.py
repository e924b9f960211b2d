"""The samples of a point: its texts, and what was recorded of every token.

Jobs that stand at the same prompts are decoded together, batch by batch. A batch is kept as soon as it is
complete (`store/partial.py`), so that a process that dies loses the batch in flight.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.artifacts.artifact import Artifact, Workbench, complete
from harness.artifacts.job import Job
from harness.backends.backend import Failure, Request
from harness.errors import SweepEndedError
from harness.store.reference_index import forget

if TYPE_CHECKING:
    from harness.store.records import Sample


def prompts_per_batch(rows: int, samples_per_prompt: int) -> int:
    """Return how many prompts make a batch of at most `rows` samples; no prompt's samples are split."""
    return max(1, rows // samples_per_prompt)


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
        deepest: dict[str, Job] = {}
        for job in sorted(jobs, key=lambda job: -job.point.record.top_k):
            deepest.setdefault(job.point_id, job)
        in_order = [job for job in jobs if deepest[job.point_id] is job]
        try:
            failed: Mapping[str, Exception] = _decode(in_order, bench, self)
        except SweepEndedError:
            raise
        except Exception as error:
            failed = dict.fromkeys(deepest, error)
        return {index: failed[job.point_id] for index, job in enumerate(jobs) if job.point_id in failed}


def _decode(jobs: Sequence[Job], bench: Workbench, artifact: Samples) -> dict[str, Exception]:
    """Decode jobs of distinct addresses; return the errors of those that failed, by address."""
    from harness.store.partial import Partial

    backend = bench.backend
    strategies = {job.point_id: job.strategy(backend.token_ids) for job in jobs}
    partials = {job.point_id: Partial(bench.stored(job)) for job in jobs}
    prompts = jobs[0].prompts
    rows = backend.batch_size([job.longest_request(strategies[job.point_id]) for job in jobs])
    batch_prompts = prompts_per_batch(rows, sum(job.point.generation.samples for job in jobs))
    for job in jobs:
        partial = partials[job.point_id]
        if job.point.engine.fresh:
            partial.clear()
        forget(partial.stored)
        batch_prompts = partial.begin(batch_prompts, job.point.record.top_k)
    batches = -(-len(prompts) // batch_prompts)
    label = jobs[0].point.label if len(jobs) == 1 else f"{len(jobs)} points together"
    bench.progress.stage(f"decoding {label}", sum(job.tokens for job in jobs), "tokens")
    failed: dict[str, Exception] = {}
    started = time.perf_counter()
    for batch in range(batches):
        going = [job for job in jobs if job.point_id not in failed]
        for line in (line for job in going for line in partials[job.point_id].damage(batch)):
            bench.progress.message(f"{line}; this batch is decoded again")
        if all(partials[job.point_id].has(batch) for job in going):
            continue
        before = time.perf_counter()
        bench.turns.pause()
        started += time.perf_counter() - before
        chosen = prompts[batch * batch_prompts : (batch + 1) * batch_prompts]
        requests = {job.point_id: list(job.requests(chosen, strategies[job.point_id])) for job in going}
        samples = _answers(requests, bench, failed)
        for point_id, answers in samples.items():
            partials[point_id].write(batch, answers)
    seconds = time.perf_counter() - started
    for job in jobs:
        if job.point_id not in failed:
            partials[job.point_id].merge(batches)
            facts = {"decode_seconds": seconds, "fused_points": len(jobs)} | vars(backend.usage())
            complete(bench.stored(job), artifact, {"top_k": job.point.record.top_k}, facts=facts)
            partials[job.point_id].clear()
    return failed


def _answers(
    requests: Mapping[str, Sequence[Request]], bench: Workbench, failed: dict[str, Exception]
) -> dict[str, list[Sample]]:
    """Return the samples of a batch by address; an address with a failure goes into `failed` instead."""
    every = [request for some in requests.values() for request in some]
    answers = bench.backend.generate(every, bench.progress)
    samples: dict[str, list[Sample]] = {}
    for point_id, some in requests.items():
        for _ in some:
            answer = next(answers)
            if isinstance(answer, Failure):
                failed.setdefault(point_id, answer.error)
            else:
                samples.setdefault(point_id, []).append(answer)
    return {point_id: found for point_id, found in samples.items() if point_id not in failed}
