"""Points that replay shows to be the same: what is taken from the store is what decoding would have made."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from harness.analysis.replay import (
    Outcome,
    Replayer,
    Seeds,
    known_warp,
    read_steps,
    summaries,
    taken_columns,
    vocabulary_of,
)
from harness.cli.main import main
from harness.plan.plan import Plan
from harness.run.replaying import same_points
from harness.store.stored_point import StoredPoint

BASE = [
    "model=fable_tiny",
    "quantization=fp32",
    "generation.max_new_tokens=16",
    "prompts.limit=4",
    "record.top_k=30",
    "engine.threads=1",
    "timing=off",
    "compare.noise=false",
    "tracking=off",
]
DRAWING = ["decoding.do_sample=true"]
STRATEGIES = [
    [],
    ["decoding.temperature=0.7"],
    ["decoding.temperature=1.3"],
    ["decoding.top_p=0.9"],
    ["decoding.top_p=0.8"],
    ["decoding.top_k=10"],
    ["decoding.top_k=3"],
    ["decoding.min_p=0.05"],
    ["decoding.min_p=0.2"],
    ["decoding.temperature=0.5", "decoding.top_k=4"],
    ["decoding.epsilon_cutoff=0.01"],
    ["decoding.eta_cutoff=0.01"],
]


@contextmanager
def store_in(folder: Path) -> Iterator[Path]:
    """Another store for the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_OUTPUTS", str(folder))
        yield folder


def last_sweep(outputs: Path) -> list[dict[str, Any]]:
    plans = sorted((outputs / "sweeps").glob("*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(plans[-1].read_text())["points"]


def points_of(outputs: Path) -> list[StoredPoint]:
    """The points of the last sweep, in its order."""
    return [StoredPoint(outputs / "points" / point["point_id"]) for point in last_sweep(outputs)]


def assert_same_tables(taken: StoredPoint, made: StoredPoint) -> None:
    assert taken.point_id == made.point_id
    for name in ("generations", "tokens"):
        mine, theirs = (pq.read_table(one.path(f"{name}.parquet")) for one in (taken, made))
        assert mine.schema.equals(theirs.schema)
        for column in mine.schema.names:
            left, right = mine.column(column).to_pylist(), theirs.column(column).to_pylist()
            assert len(left) == len(right)
            for one, other in zip(left, right, strict=True):
                one, other = (value if isinstance(value, list) else [value] for value in (one, other))
                for a, b in zip(one, other, strict=True):
                    if isinstance(b, float) and math.isfinite(b):
                        assert a == pytest.approx(b, rel=2e-5, abs=2e-5), (name, column)
                    else:
                        assert a == b or (a != a and b != b), (name, column)


@pytest.fixture(scope="module")
def stored_points(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> dict[str, StoredPoint]:
    """Strategies that were really decoded, by their overrides, with the same luck."""
    with store_in(tmp_path_factory.mktemp("decoded")) as outputs:
        cases = [f"[{','.join(map(repr, DRAWING + one))}]" for one in STRATEGIES]
        assert main(["-m", *BASE, "generation.samples=2", f"cases=[{','.join(cases)}]"]) == 0
        found = dict(zip(map(" ".join, STRATEGIES), points_of(outputs), strict=True))
        assert main([*BASE, "decoding=greedy"]) == 0
        return found | {"greedy": points_of(outputs)[0]}


def texts(point: StoredPoint) -> dict[tuple[str, int], list[int]]:
    found: dict[tuple[str, int], list[int]] = {}
    for row in point.rows("tokens"):
        found.setdefault((row["prompt_id"], row["sample"]), []).append(row["token_id"])
    return found


def test_replayed_choices_are_the_decoded_ones(stored_points: dict[str, StoredPoint]) -> None:
    """Over all pairs: the text is the same as far as replay says so, and parts where and how it says."""
    decided = told = 0
    for old in stored_points.values():
        for point in stored_points.values():
            decodings = [known_warp(one.config()["effective"]["decoding"]) for one in (point, old)]
            assert decodings[0] is not None
            replayer = Replayer(decodings[0], decodings[1], Seeds(0, 0))
            made, real = texts(old), texts(point)
            for sample in summaries(map(replayer, read_steps(old, vocabulary_of(old)))):
                key = (sample.prompt_id, sample.sample)
                if key not in real:
                    continue
                mine, theirs = made[key], real[key]
                assert theirs[: sample.same] == mine[: sample.same]
                assert sample.same <= len(theirs)
                told += 1
                if sample.undecided_at is not None:
                    continue
                decided += 1
                at = sample.changes_at
                if at is None:
                    assert mine == theirs
                else:
                    assert theirs[at] != mine[at]
                    assert sample.other in (None, theirs[at])
    assert decided > 0.5 * told


def test_what_would_be_taken_is_what_was_recorded(stored_points: dict[str, StoredPoint]) -> None:
    """Every stretch of a sample that replay would take equals the decoded one to float32 rounding."""
    compared = 0
    for old in stored_points.values():
        for point in stored_points.values():
            decodings = [known_warp(one.config()["effective"]["decoding"]) for one in (point, old)]
            assert decodings[0] is not None
            replayer = Replayer(decodings[0], decodings[1], Seeds(0, 0))
            real = {(row["prompt_id"], row["sample"], row["position"]): row for row in point.rows("tokens")}
            made = texts(old), texts(point)
            for steps in read_steps(old, vocabulary_of(old)):
                for row in range(0, len(steps), 11):
                    one = steps_at(steps, row)
                    key = (one.prompt_id[0], int(one.sample[0]))
                    at = int(one.position[0])
                    columns = taken_columns(replayer, one)
                    if columns is None or key not in made[1] or made[0][key][:at] != made[1][key][:at]:
                        continue
                    theirs = real[(*key, at)]
                    for name, values in columns.items():
                        got, expected = np.atleast_1d(values[0]), np.atleast_1d(theirs[name])
                        left = np.isfinite(expected)
                        assert (np.isfinite(got) == left).all(), name
                        np.testing.assert_allclose(got[left], expected[left], 2e-5, 2e-5, err_msg=name)
                    compared += 1
    assert compared > 200


def steps_at(steps: Any, row: int) -> Any:
    names = steps.__dataclass_fields__
    values = {name: getattr(steps, name) for name in names}
    return type(steps)(**{k: v if k == "vocabulary" else v[row : row + 1] for k, v in values.items()})


def test_taken_points_are_as_if_decoded(outputs: Path, tmp_path: Path, decoded: list[int]) -> None:
    """Greedy as top_k=1, and neighbours of what is stored: taken here, decoded in another store."""
    sweep = ["-m", *BASE, "decoding=top_k", "decoding.top_k=1,9,10,11,25", "decoding.temperature=0.5,0.05"]
    assert main([*BASE, "decoding=greedy"]) == 0
    assert main(["-m", *BASE, "decoding=top_k", "decoding.top_k=10", "decoding.temperature=0.5,0.05"]) == 0
    decoded.clear()
    assert main([*sweep, "engine.replay=true"]) == 0
    taken = {
        stored.point_id: stored for stored in points_of(outputs) if "replayed_from" in stored.parts()["facts"]
    }
    assert len(taken) >= 2, "top_k=1 leaves no choice"
    assert sum(decoded) == 4 * (10 - 2 - len(taken))
    for point in last_sweep(outputs):
        if point["point_id"] in taken:
            assert point["status"] == "reused"
            assert any("replay" in warning for warning in point["warnings"])
    with store_in(tmp_path / "other") as other:
        assert main(sweep) == 0
        for made in points_of(other):
            if made.point_id in taken:
                assert_same_tables(taken[made.point_id], made)
                mine, theirs = taken[made.point_id].metrics(), made.metrics()
                assert "throughput/sweep_tokens_per_s" not in mine["metrics"]
                assert "memory/peak_mb" not in mine["metrics"]
                measured = ("throughput", "memory/p", "latency")
                kept, told = (
                    {k: v for k, v in one["metrics"].items() if not k.startswith(measured)}
                    for one in (mine, theirs)
                )
                assert kept == pytest.approx(told, rel=1e-4, abs=1e-5)
                configs = [yaml.safe_load(one.config_text()) for one in (taken[made.point_id], made)]
                assert configs[0]["effective"] == configs[1]["effective"]
                assert configs[0]["requested"]["decoding"] == configs[1]["requested"]["decoding"]
    decoded.clear()
    assert main(sweep) == 0
    assert decoded == [], "what was taken is in the store like any other point"


def test_only_who_asks_gets_it(outputs: Path, decoded: list[int]) -> None:
    assert main([*BASE, "decoding=greedy"]) == 0
    decoded.clear()
    assert main([*BASE, "decoding=top_k", "decoding.top_k=1"]) == 0
    assert decoded == [4]
    assert main([*BASE, "decoding=top_k", "decoding.top_k=1", "engine.fresh=true", "engine.replay=true"]) == 0
    assert decoded == [4, 4], "fresh means decoded"


def test_what_is_not_exactly_known_is_not_taken(outputs: Path, decoded: list[int]) -> None:
    """The same choices do not do: the entropy of what was not recorded is not known."""
    assert main([*BASE, "decoding=greedy", "record.top_k=2"]) == 0
    decoded.clear()
    take = [*BASE, "engine.replay=true"]
    assert main([*take, "decoding=temperature", "decoding.temperature=0.001", "record.top_k=2"]) == 0
    assert main([*take, "decoding=top_k", "decoding.top_k=1"]) == 0, "30 alternatives are asked for"
    assert main([*take, "decoding=top_k", "decoding.top_k=1", "generation.seed=1", "prompts.limit=3",
                 "record.top_k=2"]) == 0  # fmt: skip
    assert main([*take, "decoding=top_k", "decoding.top_k=1", "generation.max_new_tokens=15",
                 "record.top_k=2"]) == 0  # fmt: skip
    assert decoded == [4, 4, 3, 4]


def test_a_taken_point_is_timed_and_scored_like_any(outputs: Path, decoded: list[int]) -> None:
    quick = ["timing=quick", "timing.prompts=1", "timing.repeats=1", "timing.new_tokens=3"]
    assert main([*BASE, "decoding=greedy", "generation.seed=1"]) == 0
    decoded.clear()
    top_1 = [*BASE, "decoding=top_k", "decoding.top_k=1", "engine.replay=true"]
    assert main([*top_1, *quick, "record.prompt_logprobs=true"]) == 0
    assert decoded == []
    (point,) = points_of(outputs)
    assert {"latency/itl_p50_ms", "throughput/tokens_per_s"} <= point.metrics()["metrics"].keys()
    assert "throughput/sweep_tokens_per_s" not in point.metrics()["metrics"]
    assert point.has("prompt_tokens.parquet")
    assert point.columns("generations", ["seed"])["seed"] == [0] * 4, "the luck that was asked for"
    assert point.environment()["replayed_from"] == point.parts()["facts"]["replayed_from"]


def test_the_plan_marks_them(outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    assert main([*BASE, "decoding=greedy"]) == 0
    (greedy,) = points_of(outputs)
    capsys.readouterr()
    assert main(["plan", "-m", *BASE, "decoding=top_k", "decoding.top_k=1,30"]) == 0
    said = capsys.readouterr().out
    assert f"decode (same as {greedy.point_id})" in said
    assert "engine.replay=true takes" in said
    assert "2 points, 0 in the store" in said
    cases = "cases=[['decoding=greedy'],['decoding=top_k','decoding.top_k=1']]"
    assert main(["plan", "-m", *BASE, "engine.replay=true", cases]) == 0
    said = capsys.readouterr().out
    assert "take: same as fable_tiny/fp32/greedy" in said
    assert "2 in the store already (1 by replay)" in said


def test_int8_depends_on_company(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr("harness.cli.show_plan.same_points", lambda plan: plans.append(plan) or {})
    assert main([*BASE, "decoding=greedy"]) == 0
    assert main(["plan", *BASE, "decoding=top_k", "decoding.top_k=1"]) == 0
    (plan,) = plans
    assert list(same_points(plan)) == [0]
    (planned,) = plan.points
    int8 = planned.point.quantization.model_copy(update={"load_in_8bit": True})
    asked = planned.point.model_copy(update={"quantization": int8})
    assert same_points(replace(plan, points=(replace(planned, point=asked),))) == {}


def test_another_seed_is_other_luck(stored_points: dict[str, StoredPoint]) -> None:
    point = stored_points["decoding.top_k=3"]
    warp = known_warp(point.config()["effective"]["decoding"])
    assert warp is not None
    for seed in (0, 1):
        replayer = Replayer(warp, warp, Seeds(seed, 0))
        found = [replayer(steps).choices.outcome for steps in read_steps(point, vocabulary_of(point))]
        assert (np.concatenate(found) == Outcome.SAME).all() == (seed == 0)
        assert (np.concatenate(found) == Outcome.CHANGED).any() == (seed == 1)
