"""What a point's address depends on, the code that its strategy names too; and what it is warned of."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.artifacts.job import Job
from harness.config.hydra_app import one_point
from harness.errors import ConfigError
from harness.once import Once
from harness.plan.prepare import prepare

SOURCE = "def flat(input_ids, scores, by=2.0):\n    return scores / by\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(SOURCE)


def job(*overrides: str) -> Job:
    return prepare(one_point(["model=fable_tiny", *overrides]), Once())


def test_the_address_follows_the_content_of_a_processors_file() -> None:
    own = "decoding.processors=[mine.py:flat]"
    first = job(own)
    assert job(own).point_id == first.point_id
    Path("mine.py").write_text(SOURCE.replace("/", "*"))
    second = job(own)
    assert second.point_id != first.point_id
    Path("mine.py").write_text(SOURCE)
    assert job(own).point_id == first.point_id


def test_every_part_of_an_entry_is_in_the_address() -> None:
    overrides = [
        "decoding.processors=null",
        "decoding.processors=[mine.py:flat]",
        "decoding.processors=[mine.py:flat, mine.py:flat]",
        "decoding.processors=[{path: mine.py:flat, place: after}]",
        "decoding.processors=[{path: mine.py:flat, by: 3.0}]",
    ]
    assert len({job(one).point_id for one in overrides}) == len(overrides)
    written_out = "decoding.processors=[{path: mine.py:flat, place: before}]"
    assert job(written_out).point_id == job(overrides[1]).point_id
    assert job("decoding.processors=[]").point_id == job().point_id


def test_a_loop_of_ones_own_is_in_the_address_with_its_content_and_arguments() -> None:
    takes = "(model, prompts, max_new_tokens, seeds, settings, depth=2)"
    Path("mine.py").write_text(f"def loop{takes}:\n    return [[5] for _ in prompts]\n")
    own = ["decoding.generate=mine.py:loop", "decoding.generate={path: mine.py:loop, depth: 3}"]
    ids = [job(one).point_id for one in own]
    assert len({*ids, job().point_id}) == 3
    assert job(own[0], "generation.seed=1").point_id == ids[0]
    assert job(own[0], "decoding.do_sample=true").point_id != ids[0]
    assert "generate" not in job().effective
    Path("mine.py").write_text(Path("mine.py").read_text().replace("[5]", "[6]"))
    assert job(own[0]).point_id != ids[0]


def test_a_warning_of_a_processor_is_the_jobs() -> None:
    Path("mine.py").write_text("import random\n" + SOURCE.replace("by\n", "random.random()\n"))
    (warning,) = job("decoding.processors=[mine.py:flat]").warnings
    assert warning.startswith("decoding.processors=mine.py:flat: line 3 uses random.random")


def test_a_mistake_is_found_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="has nothing named flatt"):
        job("decoding.processors=[mine.py:flatt]")


def test_one_sample_of_several_is_warned_of() -> None:
    (warning,) = job("decoding=cot").warnings
    assert warning == "decoding.cot_branches=10: sample 0 alone is greedy decoding; add generation.samples=10"
    assert job("decoding=cot", "generation.samples=2").warnings == ()


def test_searches_have_addresses_of_their_own() -> None:
    overrides = [
        ["decoding=greedy"],
        ["decoding=contrastive_search"],
        ["decoding=contrastive_search", "decoding.penalty_alpha=0.5"],
        ["decoding=beam", "decoding.num_beams=6"],
        ["decoding=diverse_beam"],
        ["decoding=diverse_beam", "decoding.num_beam_groups=2"],
        ["decoding=cot"],
        ["decoding=cot", "decoding.cot_branches=5"],
    ]
    assert len({job(*some).point_id for some in overrides}) == len(overrides)
