"""The batches of jobs that decode together: one plan for all, whoever writes them, and however it changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_backends import FakeBackend, chosen_logprobs

from harness.artifacts.artifact import Workbench
from harness.artifacts.batch_team import Team
from harness.artifacts.family_decoding import FamilyDecoding
from harness.artifacts.job import Job
from harness.artifacts.samples import Samples, help_decode
from harness.backends.backend import Request, Usage
from harness.config.hydra_app import one_point
from harness.config.point import Engine
from harness.plan.plan import make_plan
from harness.progress import SILENT
from harness.store.partial import BatchPlan, Partial


@dataclass
class Recorded(FakeBackend):
    """Notes how many samples are decoded at once; memory for more than `fits` runs out."""

    rows: int = 4
    fits: int = 1000
    decoded: list[tuple[int, int]] = field(default_factory=list)

    def configure(self, engine: Engine) -> None:
        super().configure(engine)
        if engine.batch_rows != "auto":
            self.rows = engine.batch_rows

    def batch_size(self, requests: Sequence[Request]) -> int:
        return self.rows

    def generate(self, requests: Sequence[Request], progress: Any) -> Any:
        self.rows = min(self.rows, self.fits)
        self.decoded.append((len(requests), self.rows))
        return super().generate(requests, progress)

    def usage(self) -> Usage:
        return Usage(tokens=self.answered, rows=self.answered, batch_rows=self.rows)


def jobs(*decodings: str) -> list[Job]:
    words = ["model=fable_tiny", "prompts.limit=8", "timing=off", "tracking=off"]
    plan = make_plan([one_point([*words, f"decoding={decoding}"]) for decoding in decodings], "it")
    return list(plan.jobs)


def bench(outputs: Path, backend: FakeBackend, worker: int | None = None, workers: int = 2) -> Workbench:
    found = Workbench(outputs, SILENT, lambda: backend)  # type: ignore[arg-type, return-value]
    if worker is not None:
        found.team = Team(outputs, "sweep.0.run.0", worker, workers, SILENT.message)
    return found


def prompt_ids(outputs: Path, job: Job) -> list[str]:
    return [
        row["prompt_id"] for row in bench(outputs, Recorded(chosen_logprobs)).stored(job).rows("generations")
    ]


def decode(some: Sequence[Job], place: Workbench, batches: int | None = None) -> None:
    """Decode some batches, as a process does that is killed then."""
    family = FamilyDecoding(some, place)
    family.begin()
    for batch in range(family.batches if batches is None else batches):
        family._make(batch, some)


def test_jobs_that_were_begun_in_other_batches_get_the_same(outputs: Path) -> None:
    one, two, three = jobs("greedy", "top_p", "top_k")
    decode([one], bench(outputs, Recorded(chosen_logprobs, rows=4)), batches=1)  # four prompts
    decode([two, three], bench(outputs, Recorded(chosen_logprobs, rows=4)), batches=3)  # two each
    backend = Recorded(chosen_logprobs, rows=12)
    assert not Samples().make_family([one, two, three], bench(outputs, backend))
    for job in (one, two, three):
        assert prompt_ids(outputs, job) == [prompt.id for prompt in job.prompts]
    # Most batches were of two prompts: the one of four goes, and is decoded beside the others'.
    assert [requests for requests, _ in backend.decoded] == [6, 6, 6, 6]


def test_what_batches_took_is_kept_with_them(outputs: Path) -> None:
    (job,) = jobs("greedy")
    place = bench(outputs, Recorded(chosen_logprobs))
    decode([job], place, batches=1)
    assert not Samples().make_family([job], bench(outputs, Recorded(chosen_logprobs)))
    facts = place.stored(job).parts()["facts"]
    assert (facts["tokens"], facts["rows"], facts["batch_rows"]) == (8, 8, 4)
    assert facts["decode_seconds"] > 0


def test_memory_that_runs_out_makes_batches_smaller_for_every_worker(outputs: Path) -> None:
    (job,) = jobs("greedy")
    first, second = Recorded(chosen_logprobs, rows=2, fits=1), Recorded(chosen_logprobs, rows=100)
    leads, helps = bench(outputs, first, 0), bench(outputs, second, 1)
    family = FamilyDecoding([job], leads)
    family.begin()
    other = FamilyDecoding([job], helps)
    assert other.join()
    other._make(0, [job])
    family._make(1, [job])
    other._make(2, [job])
    # Two at once as the plan says, however much memory there is; then one, as the first has found.
    assert second.decoded == [(2, 2), (2, 1)]
    assert Partial(leads.stored(job)).plan() == BatchPlan(2, 5, 1, "sweep.0.run.0", 2)
    # Who goes on after all died begins with one as well.
    again = Recorded(chosen_logprobs, rows=100)
    assert not Samples().make_family([job], bench(outputs, again))
    assert again.decoded == [(2, 1)]
    assert prompt_ids(outputs, job) == [prompt.id for prompt in job.prompts]


def test_a_strategy_that_fails_fails_for_every_worker_of_a_run(outputs: Path) -> None:
    good, bad = jobs("greedy", "top_p")

    class Unlucky(Recorded):
        def generate(self, requests: Sequence[Request], progress: Any) -> Any:
            from harness.backends.backend import Failure

            top_p = bad.effective["top_p"]
            for request, answer in zip(requests, super().generate(requests, progress), strict=True):
                fails = request.strategy.effective["top_p"] == top_p
                yield Failure(RuntimeError("no luck")) if fails else answer

    leads, helps = bench(outputs, Unlucky(chosen_logprobs), 0), bench(outputs, Recorded(chosen_logprobs), 1)
    family = FamilyDecoding([good, bad], leads)
    family.begin()
    family._make(0, [good, bad])
    assert help_decode([good, bad], helps)
    assert {requests for requests, _ in helps.backend.decoded} == {2}, "only of the one that goes on"  # type: ignore[attr-defined]
    again = bench(outputs, Recorded(chosen_logprobs), 0)
    (error,) = Samples().make_family([good, bad], again).values()
    assert str(error) == "RuntimeError: no luck"
    assert "RuntimeError: no luck" in error.__notes__[0]
    assert prompt_ids(outputs, good) == [prompt.id for prompt in good.prompts]
    # The next run tries it again.
    assert not Samples().make_family([bad], bench(outputs, Recorded(chosen_logprobs)))


@pytest.mark.parametrize("again", ["another run", "another sweep", "engine.fresh"])
def test_nobody_changes_batches_that_others_still_write(again: str, outputs: Path) -> None:
    (job,) = jobs("greedy")
    leads, helps = bench(outputs, Recorded(chosen_logprobs), 0), bench(outputs, Recorded(chosen_logprobs), 1)
    decode([job], leads, batches=1)
    assert helps.team is not None
    entered, go_on = threading.Event(), threading.Event()
    wrote: list[bool] = []

    def help_on() -> None:
        with helps.team.helping() as possible:  # type: ignore[union-attr]
            family = FamilyDecoding([job], helps)
            wrote.append(possible and family.join())
            entered.set()
            go_on.wait(20)
            family._make(1, [job])

    helper = threading.Thread(target=help_on)
    helper.start()
    assert entered.wait(20)
    place = bench(outputs, Recorded(chosen_logprobs))
    if again == "another run":
        place.team = Team(outputs, "sweep.0.next.0", 0, 1, SILENT.message)
    change = {"fresh": again == "engine.fresh"}
    point = job.point.model_copy(update={"engine": job.point.engine.model_copy(update=change)})
    other = Job(**{**vars(job), "point": point})
    changes = threading.Thread(target=FamilyDecoding([other], place).begin)
    changes.start()
    changes.join(0.3)
    assert changes.is_alive(), "it waits for the helper"
    go_on.set()
    helper.join(20)
    changes.join(20)
    assert wrote == [True]
    assert Partial(place.stored(job)).kept() == (0 if again == "engine.fresh" else 2)
    # From now on the old team has nothing to say here.
    assert not help_decode([job], helps)


def test_a_lead_waits_for_who_helps_and_lets_nobody_in_while_it_merges(outputs: Path) -> None:
    (job,) = jobs("greedy")
    leads, helps = bench(outputs, Recorded(chosen_logprobs), 0), bench(outputs, Recorded(chosen_logprobs), 1)
    assert leads.team is not None
    assert helps.team is not None
    family = FamilyDecoding([job], leads)
    family.begin()
    with helps.team.batch(1) as mine:
        assert mine
        waits = threading.Thread(target=lambda: family.decode(wait=True))
        waits.start()
        waits.join(0.5)
        assert waits.is_alive()
        assert Partial(leads.stored(job)).kept() == 1
    waits.join(20)
    assert Partial(leads.stored(job)).kept() == 2
    pauses: list[float] = []
    with helps.team.helping():
        alone = leads.team.alone(lambda: pauses.append(time.monotonic()))
        inside = threading.Thread(target=alone.__enter__)
        inside.start()
        inside.join(0.5)
        assert inside.is_alive()
        assert len(pauses) >= 2, "others may time meanwhile"
    inside.join(20)
    assert not inside.is_alive()
    assert not help_decode([job], helps)
