"""The registry of artifacts: what is missing of a point, what follows from what, what is made anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.artifacts.job import Job
from harness.artifacts.registry import ARTIFACTS, actions, dependents, missing, outdate, point_files
from harness.config import hydra_app
from harness.plan.plan import make_plan
from harness.store.stored_point import StoredPoint, stored_point

BASE = ["model=fable_tiny", "prompts.limit=1", "generation.max_new_tokens=4", "tracking=off"]


def jobs(*overrides: str) -> Sequence[Job]:
    found: list[Job] = []

    def action(points: Any, name: str, files: Any) -> int:
        found.extend(make_plan(points, name).jobs)
        return 0

    assert hydra_app.run([*BASE, *overrides], action) == 0
    return found


def store(job: Job, outputs: Path, **parts: Any) -> StoredPoint:
    stored = stored_point(outputs, job.point_id)
    stored.folder.mkdir(parents=True, exist_ok=True)
    stored.path("parts.json").write_text(json.dumps(parts))
    for artifact in ARTIFACTS:
        for name in artifact.files if artifact.name in parts else ():
            stored.path(name).write_bytes(b"PAR1 PAR1")
    return stored


def names(job: Job, outputs: Path) -> list[str]:
    return [artifact.name for artifact in missing(job, outputs)]


def test_each_artifact_is_there_once_and_after_what_it_is_computed_from() -> None:
    every = [artifact.name for artifact in ARTIFACTS]
    assert len(set(every)) == len(every)
    for index, artifact in enumerate(ARTIFACTS):
        assert set(artifact.after) <= set(every[:index]), artifact.name
    assert dependents(ARTIFACTS[0]) == {"noise", "speculation", "speculation_timing", "described", "metrics"}
    files = point_files()
    assert len(set(files)) == len(files)
    assert {"generations.parquet", "tokens.parquet", "metrics.json", "drift.parquet", "config.yaml"} <= set(
        files
    )


def test_what_an_empty_store_lacks(outputs: Path) -> None:
    (job,) = jobs("timing=off")
    assert names(job, outputs) == ["record", "described", "metrics"]
    assert actions(missing(job, outputs)) == ("decode",), "the others follow from it"
    (job,) = jobs("timing=quick", "record.prompt_logprobs=true")
    assert actions(missing(job, outputs)) == ("decode", "score prompts", "time")


def test_deeper_recording_keeps_what_does_not_depend_on_it(outputs: Path) -> None:
    (job,) = jobs("timing=quick", "record.top_k=3")
    timing = next(artifact for artifact in ARTIFACTS if artifact.name == "timing").spec(job)
    done = {"record": {"top_k": 5}, "facts": {}, "timing": timing, "described": True}
    done["metrics"] = job.metrics.spec(done)
    stored = store(job, outputs, **done)
    assert names(job, outputs) == []
    (deeper,) = jobs("timing=quick", "record.top_k=9")
    assert deeper.point_id == job.point_id
    lacking = missing(deeper, outputs)
    assert [artifact.name for artifact in lacking] == ["record", "described", "metrics"]
    outdate(deeper, lacking, stored)
    assert set(stored.parts()) == {"facts", "timing"}, "they count again once they are complete"


def test_another_timing_outdates_the_metrics(outputs: Path) -> None:
    (job,) = jobs("timing=quick")
    timing = next(artifact for artifact in ARTIFACTS if artifact.name == "timing").spec(job)
    done = {"record": {"top_k": 5}, "facts": {}, "timing": timing, "described": True}
    done["metrics"] = job.metrics.spec(done)
    store(job, outputs, **done)
    (other,) = jobs("timing=quick", "timing.repeats=7")
    assert names(other, outputs) == ["timing", "metrics"]
    assert actions(missing(other, outputs)) == ("time",)


def test_fresh_drops_everything(outputs: Path) -> None:
    (job,) = jobs("timing=off", "engine.fresh=true")
    done = {"record": {"top_k": 5}, "facts": {}, "timing": {}, "described": True, "prompt_logprobs": True}
    done["metrics"] = job.metrics.spec(done)
    stored = store(job, outputs, **done)
    stored.path("timing.parquet").write_bytes(b"old")
    lacking = missing(job, outputs)
    assert [artifact.name for artifact in lacking] == ["record", "described", "metrics"]
    outdate(job, lacking, stored)
    assert stored.parts() == {}
    assert not stored.path("timing.parquet").exists()
