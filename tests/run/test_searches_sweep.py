"""Sweeps of searches: how many outputs each has, what is stored and timed of them, what is not replayed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.store.stored_point import StoredPoint

SMALL = [
    "model=fable_tiny", "tracking=off", "prompts.limit=2", "generation.max_new_tokens=6", "record.top_k=4",
    "timing.prompts=1", "timing.repeats=1", "timing.warmup=0", "timing.new_tokens=3",
]  # fmt: skip
SEARCHES = "decoding=greedy,contrastive_search,diverse_beam,cot,constrained_beam,stochastic_beam"


@pytest.fixture
def run(outputs: Path) -> Callable[..., dict[str, StoredPoint]]:
    """`run("decoding=greedy,cot", ...)`: the points of a sweep by the name of their strategy."""

    def points(*words: str) -> dict[str, StoredPoint]:
        assert main(["-m", *SMALL, *words]) == 0
        plan = max(outputs.glob("sweeps/*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
        return {
            point["label"].rpartition("/")[2]: StoredPoint(outputs / "points" / point["point_id"])
            for point in json.loads(plan.read_text())["points"]
        }

    return points


def outputs_of(point: StoredPoint) -> list[tuple[str, int, str]]:
    return [(row["prompt_id"], row["sample"], row["output"]) for row in point.rows("generations")]


@pytest.mark.usefixtures("one_thread")
def test_each_search_has_its_outputs_together_and_one_by_one(run: Any) -> None:
    together = run(SEARCHES, "generation.samples=3")
    counts = {name: len(outputs_of(point)) for name, point in together.items()}
    assert counts == {"greedy": 2, "contrastive_search": 2, "diverse_beam": 6, "cot": 6} | {
        "constrained_beam": 2,
        "stochastic_beam": 6,
    }
    expected = {name: outputs_of(point) for name, point in together.items()}
    for name in ("diverse_beam", "cot", "stochastic_beam"):
        for prompt in {prompt for prompt, _, _ in expected[name]}:
            assert len({output for of, _, output in expected[name] if of == prompt}) == 3
    greedy = [output for _, _, output in expected["greedy"]]
    assert [output for _, sample, output in expected["cot"] if sample == 0] == greedy
    apart = run(SEARCHES, "generation.samples=3", "engine.batch_rows=1", "engine.fresh=true")
    assert {name: outputs_of(point) for name, point in apart.items()} == expected


@pytest.mark.usefixtures("one_thread")
def test_what_is_stored_and_timed(run: Any) -> None:
    found = run(SEARCHES, "generation.samples=2")
    scored = {name: point.rows("generations")[0]["sequence_score"] for name, point in found.items()}
    beams = ["diverse_beam", "constrained_beam", "stochastic_beam"]
    assert [name for name, score in scored.items() if score is not None] == beams
    assert all("river" in output for _, _, output in outputs_of(found["constrained_beam"]))
    for row in found["stochastic_beam"].rows("generations"):
        its = [
            token["warped_logprob"]
            for token in found["stochastic_beam"].rows("tokens")
            if (token["prompt_id"], token["sample"]) == (row["prompt_id"], row["sample"])
        ]
        assert row["sequence_logprob"] == pytest.approx(sum(its), abs=1e-4)
    row = found["diverse_beam"].rows("generations")[0]
    assert row["sequence_score"] == pytest.approx(row["mean_logprob"], abs=1e-4)
    assert all(row["kept"] == 4 for row in found["contrastive_search"].rows("tokens"))
    first_tokens = [row for row in found["cot"].rows("tokens") if row["position"] == 0]
    assert [row["rank"] for row in first_tokens] == [row["sample"] + 1 for row in first_tokens]
    measured = {name: point.metrics()["metrics"] for name, point in found.items()}
    streams = [name for name, metrics in measured.items() if "latency/ttft_p50_ms" in metrics]
    assert streams == ["greedy", "contrastive_search", "cot"]
    assert all("latency/total_p50_ms" in metrics for metrics in measured.values())


def test_replay_refuses_what_it_cannot_know(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (point,) = run("decoding=greedy", "timing=off").values()
    capsys.readouterr()
    for words, line in (
        (
            ["decoding=contrastive_search"],
            "decoding.penalty_alpha=0.6: replay does not support it (the hidden",
        ),
        (["decoding=diverse_beam"], "decoding.num_beams=6: replay does not support it"),
        (["decoding=constrained_beam"], "decoding.num_beams=6: replay does not support it"),
        (
            ["decoding=stochastic_beam"],
            "decoding.stochastic_beams=true: replay does not support it (its samp",
        ),
        (["decoding=cot"], "decoding.cot_branches=10: replay does not support it"),
    ):
        assert main(["replay", point.folder.name, *words]) == 2
        assert line in capsys.readouterr().err
