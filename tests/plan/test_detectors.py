"""Which detectors read a point: its own, and those of the other watermarks of the sweep as a control."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.config.hydra_app import one_point
from harness.once import Once
from harness.plan.checks import sample_notes
from harness.plan.detectors import with_detectors
from harness.plan.prepare import prepare
from harness.store.stored_point import StoredPoint


@pytest.fixture
def jobs() -> Callable[..., Any]:
    def prepared(*overrides: list[str]) -> Any:
        return with_detectors(
            [prepare(one_point(["model=fable_tiny", *words]), Once()) for words in overrides]
        )

    return prepared


def test_a_marked_point_has_its_own_detector_and_others_the_first(jobs: Any) -> None:
    plain, first, second, gumbel = jobs(
        ["decoding=temperature"],
        ["decoding=kgw", "decoding.kgw_hashing_key=5"],
        ["decoding=kgw", "decoding.kgw_hashing_key=7"],
        ["decoding=gumbel_watermark"],
    )
    keys = [
        {one.name: one.value.get("kgw_hashing_key") for one in job.metrics.detectors}
        for job in (plain, first, second, gumbel)
    ]
    assert keys == [{"kgw": key, "gumbel": None} for key in (5, 5, 7, 5)]
    assert {one.vocabulary for one in plain.metrics.detectors} == {2048}
    assert plain.metrics.spec({})["watermarks"][0][0] == "kgw"


def test_the_strength_of_a_mark_is_none_of_its_detector(jobs: Any) -> None:
    weak, strong = jobs(["decoding=kgw", "decoding.kgw_bias=1"], ["decoding=kgw", "decoding.kgw_bias=4"])
    assert weak.metrics == strong.metrics


def test_without_a_watermark_metrics_are_as_before(jobs: Any) -> None:
    (alone,) = jobs(["decoding=temperature"])
    assert "watermarks" not in alone.metrics.spec({})


def test_samples_of_a_gumbel_watermark_are_warned_of() -> None:
    words = ["model=fable_tiny", "decoding=gumbel_watermark"]
    assert sample_notes(one_point(words)) == ()
    (line,) = sample_notes(one_point([*words, "generation.samples=2"]))
    assert line.endswith("set generation.samples=1")


@pytest.mark.usefixtures("one_thread")
def test_every_point_of_a_sweep_is_scored(outputs: Path) -> None:
    words = [
        "model=fable_tiny",
        "tracking=off",
        "timing=off",
        "prompts.limit=3",
        "generation.ignore_eos=true",
    ]
    marks = ["decoding=temperature,kgw", "decoding.kgw_bias=12", "generation.max_new_tokens=40"]
    assert main(["-m", *words, *marks]) == 0
    points = [StoredPoint(folder) for folder in (outputs / "points").iterdir()]
    found = {
        point.metrics()["metrics"]["watermark/kgw_detected"]: point.metrics()["metrics"] for point in points
    }
    assert sorted(found) == [0.0, 1.0]
    assert found[1.0]["watermark/kgw_green_share"] > 0.6 > found[0.0]["watermark/kgw_green_share"]
    assert all(
        row["kgw_z"] > 3 for point in points for row in point.rows("generations") if row["kgw_detected"]
    )
