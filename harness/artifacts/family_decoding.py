"""Jobs that decode together: the plan of their batches, and the decoding of each that is not there yet.

A process that decodes by itself takes the batches in their order. Workers that share them (`batch_team.py`)
take those that nobody has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard

from harness.artifacts.artifact import Workbench
from harness.artifacts.batch_energy import energy_of_batches
from harness.artifacts.batch_team import POLL_S, without_members
from harness.artifacts.job import Job, prompts_per_batch
from harness.backends.backend import Failure, Request, Usage
from harness.config.secret_text import without_secrets
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError, one_line
from harness.store.partial import BatchPlan, Partial

if TYPE_CHECKING:
    from harness.store.records import Sample


class FamilyDecoding:
    """The decoding of jobs of distinct addresses, batch by batch.

    Attributes:
        partials: batches by address.
        failed: the errors of jobs that failed, by address.
        batches: how many there are; known once the plan is.
    """

    def __init__(self, jobs: Sequence[Job], bench: Workbench) -> None:
        self.partials = {job.point_id: Partial(bench.stored(job)) for job in jobs}
        self.failed: dict[str, Exception] = {}
        self.batches = 0
        self._jobs, self._bench, self._team = jobs, bench, bench.team
        self._strategies: dict[str, Strategy] = {}
        self._plan = BatchPlan(1, 0)
        self._pinned = jobs[0].target.same_batch_same_bits

    def begin(self) -> None:
        """Go on with the batches that are there, or begin anew; the jobs' locks must be held.

        All jobs must have the same batches, so where they do not, those of which fewer are there go.
        """
        plans = {point_id: partial.plan() for point_id, partial in self.partials.items()}
        kept = {
            job.point_id: plan
            for job in self._jobs
            if (plan := plans[job.point_id])
            and plan.top_k == job.point.record.top_k
            and not job.point.engine.fresh
        }
        most = max(kept, key=lambda point_id: self.partials[point_id].kept(), default=None)
        self._settle(kept[most] if most is not None else None)
        size = self._plan.batch_prompts
        good = {point_id for point_id, plan in kept.items() if plan.batch_prompts == size}
        with ExitStack() as nobody_writes:
            for plan in {replace(plan, top_k=0) for plan in plans.values() if plan is not None}:
                if plan.team is not None and (good < plans.keys() or not self._is_ours(plan)):
                    nobody_writes.enter_context(self._without_members(plan.team, plan.workers))
            for job in self._jobs:
                partial = self.partials[job.point_id]
                if job.point_id not in good:
                    partial.clear()
                elif self._team is None:
                    partial.forget_failure()
                partial.begin(self._plan_of(job))

    def join(self) -> bool:
        """Go on with the plan of this worker's team; return whether all jobs have it."""
        plans = [partial.plan() for partial in self.partials.values()]
        depths = [job.point.record.top_k for job in self._jobs]
        if not all(
            self._is_ours(plan) and plan.top_k == top_k for plan, top_k in zip(plans, depths, strict=True)
        ):
            return False
        self._settle(plans[0])
        return True

    def decode(self, *, wait: bool) -> None:
        """Decode the batches that are not there and that nobody has.

        Args:
            wait: until those that others have are there, too.
        """
        self._show()
        left = self._order()
        while left:
            left = [batch for batch in left if not self._is_settled(batch)]
            if not left or not wait:
                return
            self._bench.turns.pause()  # others may wait for who times, and they for this process to pause
            time.sleep(POLL_S)

    def check(self) -> None:
        """Decode what is missing or damaged in the end; nobody else may be at work."""
        for batch in range(self.batches):
            if going := self._going():
                self._make(batch, going)

    def usage(self, point_id: str) -> dict[str, Any]:
        """Return what all batches together took, whoever made them; the facts of parts.json."""
        costs = self.partials[point_id].costs(self.batches)
        found: dict[str, Any] = {
            name: sum(cost[name] for cost in costs) for name in ("decode_seconds", "tokens", "rows")
        }
        peaks = [cost["peak_mb"] for cost in costs if cost["peak_mb"] is not None]
        if (joules := energy_of_batches(costs)) is not None:
            found["joules"] = joules
        return found | {
            "batch_rows": min((cost["batch_rows"] for cost in costs), default=0),
            "captured": any(cost["captured"] for cost in costs),
            "peak_mb": max(peaks, default=None),
        }

    def _is_ours(self, plan: BatchPlan | None) -> TypeGuard[BatchPlan]:
        """Return whether batches are made by this worker's team."""
        return self._team is not None and self._team.owns(plan)

    def _without_members(self, team: str, workers: int) -> AbstractContextManager[None]:
        """Wait for the members of a team that are at work, and let none begin."""
        bench = self._bench
        bench.progress.stage("waiting for other workers of these points", 1, "")
        return without_members(bench.outputs, team, workers, bench.progress.message, bench.turns.pause)

    def _settle(self, kept: BatchPlan | None) -> None:
        """Decide on the plan, and have the backend decode as many samples at once as it says."""
        backend, first = self._bench.backend, self._jobs[0]
        self._strategies = {job.point_id: job.strategy(backend.token_ids) for job in self._jobs}
        rows = backend.batch_size([job.longest_request(self._strategies[job.point_id]) for job in self._jobs])
        samples = sum(job.point.generation.samples for job in self._jobs)
        if kept is not None and kept.rows is not None and first.point.engine.batch_rows == "auto":
            # As the others of the team do; another run may have less memory.
            rows = kept.rows if self._is_ours(kept) else min(rows, kept.rows)
        self._plan = BatchPlan(
            prompts_per_batch(rows, samples) if kept is None else kept.batch_prompts,
            first.point.record.top_k,
            rows if self._pinned else None,
            self._team.name if self._team else None,
            self._team.workers if self._team else 1,
        )
        self.batches = -(-len(first.prompts) // self._plan.batch_prompts)
        self._pin()

    def _pin(self) -> None:
        engine = self._jobs[0].point.engine
        if self._plan.rows is not None:
            engine = engine.model_copy(update={"batch_rows": self._plan.rows})
            self._bench.backend.configure(engine)

    def _plan_of(self, job: Job) -> BatchPlan:
        return replace(self._plan, top_k=job.point.record.top_k)

    def _show(self) -> None:
        jobs = self._jobs
        label = jobs[0].point.label if len(jobs) == 1 else f"{len(jobs)} points together"
        tokens = sum(job.tokens for job in jobs)
        workers = self._team.workers if self._team else 1
        self._bench.progress.stage(f"decoding {label}", -(-tokens // workers), "tokens")

    def _order(self) -> list[int]:
        """Return the batches in the order in which they are tried: members begin at different ones."""
        if self._team is None:
            return list(range(self.batches))
        start = self._team.worker * self.batches // self._team.workers
        return [*range(start, self.batches), *range(start)]

    def _is_settled(self, batch: int) -> bool:
        """Decode a batch unless it is there, or somebody else has it; return whether it is there."""
        going = self._going()
        if self._team is not None and all(self.partials[job.point_id].is_there(batch) for job in going):
            return True
        with self._team.batch(batch) if self._team else nullcontext(True) as mine:
            if mine:
                self._make(batch, going)
            return mine

    def _going(self) -> list[Job]:
        """Return the jobs that did not fail, for this worker or another."""
        if self._team is not None:
            for point_id, partial in self.partials.items():
                if point_id not in self.failed and (why := partial.failed()):
                    error, details = why
                    self.failed[point_id] = HarnessError(error)
                    self.failed[point_id].add_note(details)
        return [job for job in self._jobs if job.point_id not in self.failed]

    def _make(self, batch: int, going: Sequence[Job]) -> None:
        """Decode a batch that is this worker's, unless it is there and sound."""
        bench = self._bench
        for line in (line for job in going for line in self.partials[job.point_id].damage(batch)):
            bench.progress.message(f"{line}; this batch is decoded again")
        if all(self.partials[job.point_id].has(batch) for job in going):
            return
        bench.turns.pause()
        self._follow_rows()
        before, started = bench.backend.usage(), time.perf_counter()
        bench.energy.start()
        size = self._plan.batch_prompts
        chosen = self._jobs[0].prompts[batch * size : (batch + 1) * size]
        requests = {job.point_id: list(job.requests(chosen, self._strategies[job.point_id])) for job in going}
        known = set(self.failed)
        samples = _answers(requests, bench, self.failed)
        if self._team is not None:
            for point_id in self.failed.keys() - known:
                self._tell_failure(point_id)
        after = bench.backend.usage()
        cost = _difference(before, after) | {"decode_seconds": time.perf_counter() - started}
        if (joules := bench.energy.stop()) is not None:
            cost["joules"] = joules
        for point_id, answers in samples.items():
            self.partials[point_id].write(batch, answers, cost)
        if self._plan.rows is not None and 0 < after.batch_rows < self._plan.rows:
            self._lower_rows(after.batch_rows)

    def _tell_failure(self, point_id: str) -> None:
        import traceback

        error = self.failed[point_id]
        details = without_secrets("".join(traceback.format_exception(error)))
        self.partials[point_id].fail(without_secrets(one_line(error)), details)

    def _follow_rows(self) -> None:
        """Decode as many samples at once as the other workers: fewer once one of them ran out of memory."""
        if self._team is None or self._plan.rows is None:
            return
        known = self.partials[self._jobs[0].point_id].plan()
        if known is not None and known.rows is not None and known.rows < self._plan.rows:
            self._plan = replace(self._plan, rows=known.rows)
            self._pin()

    def _lower_rows(self, rows: int) -> None:
        """Memory ran out: note how many samples are decoded at once from now on, by every worker."""
        with self._team.plan() if self._team else nullcontext():
            self._follow_rows()
            if self._plan.rows is not None and rows < self._plan.rows:
                self._plan = replace(self._plan, rows=rows)
                for job in self._jobs:
                    self.partials[job.point_id].begin(self._plan_of(job))


def _difference(before: Usage, after: Usage) -> dict[str, Any]:
    """Return what was used between two looks."""
    return vars(after) | {"tokens": after.tokens - before.tokens, "rows": after.rows - before.rows}


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
