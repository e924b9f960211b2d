"""The store: tables go in and come out, files appear whole, sweeps are found again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import ConfigError
from harness.store.address import point_id
from harness.store.files import atomic_path, write_text
from harness.store.partial import BatchPlan, Partial
from harness.store.records import PromptScores, Repetition, Sample, Steps, Times
from harness.store.stored_point import stored_point
from harness.store.sweeps import Sweep, SweepPoint, find_sweep, load_sweep, sweep_id_of
from harness.store.tables import (
    generations_table,
    prompt_tokens_table,
    repetitions_of,
    timing_table,
    tokens_table,
)


def a_sample(prompt: str, number: int, n: int = 3, k: int = 2) -> Sample:
    rng = np.random.default_rng(number)
    floats = {
        name: rng.normal(size=n).astype(np.float32)
        for name in (
            "logprob",
            "warped_logprob",
            "entropy",
            "warped_entropy",
            "kept_mass",
            "sum_p2",
            "logit_std",
            "vocab_mean_logprob",
            "allowed_logprob",
        )
    }
    steps = Steps(
        token_id=rng.integers(0, 99, n),
        rank=rng.integers(1, 9, n).astype(np.int32),
        kept=rng.integers(1, 9, n).astype(np.int32),
        top_ids=rng.integers(0, 99, (n, k)),
        top_logprobs=rng.normal(size=(n, k)).astype(np.float32),
        top_warped_logprobs=np.full((n, k), -np.inf, dtype=np.float32),
        **floats,
    )
    steps = replace(steps, token=tuple("abc"[:n]), top_tokens=tuple(("x", "\ud800") for _ in range(n)))
    return Sample(
        prompt, number, "a prompt", "out \ud800 put", 4, n, "eos", 5, steps, -1.5 if number else None
    )


def test_tables_round_trip(tmp_path: Path) -> None:
    stored = stored_point(tmp_path, "abc")
    samples = [a_sample("p1", 0), a_sample("p1", 1), a_sample("p0", 0)]
    stored.write_table("generations", generations_table(samples))
    stored.write_table("tokens", tokens_table(samples))
    rows = stored.rows("tokens")
    assert [(r["prompt_id"], r["sample"], r["position"]) for r in rows] == [
        (s.prompt_id, s.sample, position) for s in samples for position in range(len(s.steps))
    ]
    numbers = [name for name in vars(samples[0].steps) if name not in ("token", "top_tokens")]
    for name in numbers:
        before = np.concatenate([getattr(s.steps, name) for s in samples])
        np.testing.assert_array_equal(np.array([r[name] for r in rows], dtype=before.dtype), before)
    assert [
        (r["prompt_id"], r["sample"], r["output_tokens"], r["finish_reason"], r["sequence_score"], r["seed"])
        for r in stored.rows("generations")
    ] == [(s.prompt_id, s.sample, 3, "eos", s.sequence_score, 5) for s in samples]
    assert stored.columns("tokens", ("rank", "logprob"))["rank"] == [r["rank"] for r in rows]
    assert stored.columns("generations", ("prompt_id",)) == {"prompt_id": ["p1", "p1", "p0"]}
    row = stored.rows("generations")[0]
    assert row["output"] == "out ? put", "a lone surrogate cannot be stored"
    assert row["mean_logprob"] == pytest.approx(samples[0].steps.logprob.mean())
    assert stored.rows("tokens")[4]["position"] == 1
    assert stored.rows("tokens")[0]["top_tokens"] == ["x", "?"]
    timed = [Repetition("a,b", 0, 2, None, 5.0, 3, ()), Repetition("a", 1, 1, 1.5, 5.0, 3, (1.0, 4.0))]
    assert repetitions_of(timing_table(timed)) == timed
    nan = np.array([np.nan, -1], np.float32)
    scores = PromptScores("p", np.array([1, 2]), nan, np.array([0, 3]), nan, ("a", "b"))
    rows = prompt_tokens_table([scores]).to_pylist()
    assert [(row["token"], row["rank"], row["position"]) for row in rows] == [("a", 0, 0), ("b", 3, 1)]


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")

    def write_half() -> None:
        with atomic_path(path) as scratch:
            scratch.write_text("half")
            raise RuntimeError("disk is full")

    with pytest.raises(RuntimeError, match="full"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_parts_count_only_once_told(tmp_path: Path) -> None:
    stored = stored_point(tmp_path, "abc")
    assert stored.parts() == {}
    stored.write_json("parts.json", {"record": {"top_k": 3}})
    assert stored.parts() == {"record": {"top_k": 3}}
    with pytest.raises(ValueError, match="JSON"):
        stored.write_json("metrics.json", {"a": float("nan")})
    assert not stored.has("metrics.json")


def test_addresses() -> None:
    assert point_id({"a": 1, "b": [1, 2]}) == point_id({"b": [1, 2], "a": 1})
    assert point_id({"a": 1}) != point_id({"a": 2})
    assert sweep_id_of(["x", "y"]) == sweep_id_of(["y", "x"]) != sweep_id_of(["x"])


def test_sweeps_are_found(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sweep was run yet"):
        find_sweep(tmp_path, None)
    points = (SweepPoint("a/b/c", "id1", "a", "b", "p", "c", {"decoding": "c"}, warnings=("w",)),)
    for name, sweep_id in (("demo", "aaaa1111"), ("demo", "bbbb2222")):
        folder = tmp_path / "sweeps" / f"{name}-{sweep_id}"
        Sweep(name, sweep_id, folder, {"enabled": False}, points, 1.0).save()
    assert find_sweep(tmp_path, "aaaa").sweep_id == "aaaa1111"
    assert find_sweep(tmp_path, "demo-bbbb2222").sweep_id == "bbbb2222"
    with pytest.raises(ConfigError, match="names several"):
        find_sweep(tmp_path, "demo")
    with pytest.raises(ConfigError, match="no such sweep"):
        find_sweep(tmp_path, "zzz")
    loaded = load_sweep(tmp_path / "sweeps" / "demo-aaaa1111")
    assert loaded.points == points
    assert loaded.with_point(0, status="done").points[0].status == "done"
    assert json.loads((loaded.folder / "plan.json").read_text())["points"][0]["label"] == "a/b/c"


def test_times_are_a_table_of_their_own(tmp_path: Path) -> None:
    partial = Partial(stored_point(tmp_path, "abc"))
    partial.begin(BatchPlan(1, 2))
    timed = [replace(a_sample(f"p{n}", 0), times=Times(10.0 + n, 10.25 + n, 11.0 + n, 3)) for n in range(2)]
    for batch, sample in enumerate(timed):
        partial.write(batch, [sample])
    partial.merge(2)
    assert partial.stored.rows("times") == [
        {"prompt_id": "p0", "sample": 0, "started": 10.0, "first_token": 10.25, "ended": 11.0, "batch": 3},
        {"prompt_id": "p1", "sample": 0, "started": 11.0, "first_token": 11.25, "ended": 12.0, "batch": 3},
    ]
    assert len(partial.stored.rows("generations")) == 2


def test_batches_of_an_older_version_have_no_times(tmp_path: Path) -> None:
    partial = Partial(stored_point(tmp_path, "abc"))
    partial.begin(BatchPlan(1, 2))
    for batch in range(2):
        partial.write(batch, [replace(a_sample(f"p{batch}", 0), times=Times(1.0, 2.0, 3.0, 1))])
    (partial.stored.path("partial") / "times-000000.parquet").unlink()
    partial.merge(2)
    assert [row["prompt_id"] for row in partial.stored.rows("times")] == ["p1"]
    (partial.stored.path("partial") / "times-000001.parquet").unlink()
    partial.merge(2)
    assert not partial.stored.has("times.parquet")
    assert [row["prompt_id"] for row in partial.stored.rows("generations")] == ["p0", "p1"]


def test_only_scratch_files_without_a_writer_are_removed(tmp_path: Path) -> None:
    """A process that cleans up must not take a file away from one that is about to rename it."""
    import subprocess
    import sys
    import time

    from harness.store.files import ABANDONED_S, remove_unfinished

    held = (
        "import sys, time; from pathlib import Path; from harness.store.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as scratch:\n"
        "    scratch.write_text('whole'); print(flush=True); sys.stdin.readline()\n"
    )
    folder = tmp_path / "sweep"

    def start(name: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", held, str(folder / name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    alive, killed = start("alive.json"), start("killed.json")
    killed.kill()
    killed.communicate()
    old, foreign = folder / ".a.b.00000000-1.abcd.part", folder / ".a.b.00000000-2.abcd.part"
    for path in (old, foreign):
        path.touch()
    past = time.time() - ABANDONED_S - 10
    os.utime(old, (past, past))
    remove_unfinished(folder)
    left = sorted(path.name.split(".")[1] for path in folder.iterdir())
    assert left == ["a", "alive"]
    assert foreign.exists()
    alive.communicate("\n")
    assert (folder / "alive.json").read_text() == "whole"
