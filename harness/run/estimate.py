"""How long the rest of a sweep will take, from the stages that were measured so far."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from harness.plan.plan import Plan

LARGE = ("decoding", "timing", "cost")
"""Kinds of stages that take long: while one of them is not measured, the estimate is a lower bound."""


def expected_work(plan: Plan) -> dict[str, float]:
    """Return the units of work that the store lacks, by the kind of their stages: tokens, runs, samples."""
    work: Counter[str] = Counter()
    counted = set()
    costed = set()
    for job, lacking in zip(plan.jobs, plan.missing, strict=True):
        for artifact in lacking:
            if (job.point_id, artifact.name) in counted:
                continue
            counted.add((job.point_id, artifact.name))
            timing = job.point.timing
            if artifact.name == "record":
                work["decoding"] += job.tokens
            elif artifact.name == "timing":
                batches = -(-min(timing.prompts, len(job.prompts)) // timing.batch_size)
                work["timing"] += batches * (timing.warmup + timing.repeats)
            elif artifact.name == "cost":  # once for all points of a model
                point = job.point
                costed.add((point.model, point.quantization, point.cache, timing))
            elif artifact.name == "metrics":
                work["metrics"] += job.samples
    if costed:
        work["cost"] = 100 * len(costed)  # percent
    return dict(work)


class Estimate:
    """Estimates the seconds that are left, at the speed of each kind of stage so far.

    The kind of a stage is the first word of its label. Work of a kind that has not begun yet is left out of
    the estimate. Stages of several workers go on side by side, each worker a stream of its own; what is left
    is shared out among those that are in work.

    Args:
        work: expected units by kind.
    """

    def __init__(self, work: Mapping[str, float]) -> None:
        self._work = dict(work)
        self._done: defaultdict[str, float] = defaultdict(float)
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._stages: dict[object, _Stage] = {}

    def begin(self, label: str, total: float, now: float, stream: object = None) -> None:
        """A stage begins, and the one before has ended: what it left undone was not needed."""
        if before := self._stages.pop(stream, None):
            self._done[before.kind] += max(before.total, before.units)
            self._seconds[before.kind] += now - before.began
        if label:
            self._stages[stream] = _Stage(label.partition(" ")[0], total, now)

    def advance(self, amount: float, stream: object = None) -> None:
        """Units of the present stage are done."""
        if stage := self._stages.get(stream):
            stage.units += amount

    def seconds_left(self, now: float) -> tuple[float, bool] | None:
        """Return the seconds left and whether it will be more; None while nothing was measured."""
        left, unknown, measured = 0.0, False, False
        for kind, expected in self._work.items():
            going_on = [stage for stage in self._stages.values() if stage.kind == kind]
            done = self._done[kind] + sum(stage.units for stage in going_on)
            spent = self._seconds[kind] + sum(now - stage.began for stage in going_on)
            if done > 0 and spent > 0:
                left += max(0.0, expected - done) * spent / done
                measured |= kind in LARGE
            elif kind in LARGE:
                unknown = True
        return (left / max(1, len(self._stages)), unknown) if measured else None


@dataclass
class _Stage:
    """A stage that goes on: its kind, the units that it has and those that are done, when it began."""

    kind: str
    total: float
    began: float
    units: float = 0.0
