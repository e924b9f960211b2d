"""Every file of a store damaged in every way: what is said of it, what is made again, what goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harness.artifacts.registry import inventory
from harness.cli.main import main
from harness.store.partial import Partial
from harness.store.stored_point import StoredPoint

SWEEP = [
    "-m", "model=fable_tiny", "model.device=cpu", "prompts=storytelling", "prompts.limit=2",
    "generation.max_new_tokens=4", "timing=quick", "timing.prompts=1", "timing.repeats=1", "timing.warmup=0",
    "timing.new_tokens=3", "record.prompt_logprobs=true", "record.top_k=3", "tracking=off",
]  # fmt: skip
POINTS = [
    *SWEEP,
    "quantization=fp32,bf16",
    "decoding=temperature",
    "decoding.temperature=0.7,0.8,0.9,1.1,1.2,1.3",
]
BATCHES = [*SWEEP, "quantization=fp32", "decoding=temperature", "decoding.temperature=0.7,0.8,0.9,1.1,1.2",
           "engine.fuse=false", "timing=off", "engine.batch_rows=1"]  # fmt: skip

FILES = (
    "noise.json", "drift.parquet", "drift.json", "generations.parquet", "tokens.parquet", "times.parquet",
    "timing.parquet", "prompt_tokens.parquet", "metrics.json", "config.yaml", "environment.json",
    "parts.json",
)  # fmt: skip
BATCH_FILES = (
    "plan.json", "batch-000000.json", "tokens-000000.parquet", "times-000000.parquet",
    "generations-000000.parquet",
)  # fmt: skip


def flip(path: Path, _: Path) -> None:
    """Change one bit in the middle; in a JSON file, of a digit or letter."""
    data = bytearray(path.read_bytes())
    at = next(
        i for i in range(len(data) // 2, len(data)) if path.suffix == ".parquet" or data[i : i + 1].isalnum()
    )
    data[at] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path, Path], Any]] = {
    "deleted": lambda path, _: path.unlink(),
    "emptied": lambda path, _: path.write_bytes(b""),
    "halved": lambda path, _: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": flip,
    "another": lambda path, other: shutil.copyfile(other, path),
    "garbage": lambda path, _: path.write_bytes(b"\x00\xff{]garbage" * 40),
}


MIXED = [
    pytest.param(tuple(DAMAGES), id="mixed"),
    *(pytest.param((damage,), id=damage, marks=pytest.mark.slow) for damage in DAMAGES),
]
"""Which damages a test does, one file after the other."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """The store of POINTS, undamaged."""
    outputs = tmp_path_factory.mktemp("made") / "outputs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_OUTPUTS", str(outputs))
        assert main(POINTS) == 0
    return outputs


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """The store of BATCHES, each of whose points ended before its batches were merged."""
    outputs = tmp_path_factory.mktemp("begun") / "outputs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_OUTPUTS", str(outputs))

        def broken(*_: Any) -> None:
            raise RuntimeError("no luck today")

        patch.setattr(Partial, "merge", broken)
        assert main(BATCHES) == 1
    return outputs


def points(outputs: Path) -> list[Path]:
    return sorted(path for path in (outputs / "points").iterdir() if path.is_dir())


def tables(outputs: Path) -> dict[str, Any]:
    names = {"generations": "output", "tokens": "token_id", "prompt_tokens": "token_id"}
    found = (
        (folder / f"{name}.parquet", column) for folder in points(outputs) for name, column in names.items()
    )
    return {str(path.relative_to(outputs)): pq.read_table(path, columns=[column]) for path, column in found}


def one_of_each(outputs: Path) -> dict[str, tuple[Path, Path]]:
    """Return, by name, a file of a point of its own, and the same file of another point."""
    chosen: dict[str, tuple[Path, Path]] = {}
    for name in FILES:
        having = [folder / name for folder in points(outputs) if (folder / name).is_file()]
        free = [path for path in having if path.parent not in {done.parent for done, _ in chosen.values()}]
        chosen[name] = free[0], next(path for path in having if path != free[0])
    return chosen


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_file_of_a_point(made: Path, damage: str, outputs: Path) -> None:
    """What the run looks at, and what reports look at, name the damaged file and no other."""
    shutil.copytree(made / "points", outputs / "points")
    for name, (path, other) in one_of_each(outputs).items():
        whole = path.read_bytes()
        DAMAGES[damage](path, other)
        (line,) = inventory(outputs, thorough=True).damage(folder.name for folder in points(outputs))
        assert line.startswith(f"{path} ")
        assert inventory(outputs).damage([path.parent.name]) == (line,), (
            "these small files are read by a plan"
        )
        found = StoredPoint(path.parent).damage()
        assert (found is None) == (name == "parts.json" and damage == "deleted")
        assert found is None or found.startswith(f"{path} ")
        path.write_bytes(whole)
        assert StoredPoint(path.parent).damage() is None


@pytest.mark.parametrize("damages", MIXED)
def test_files_of_points(
    made: Path,
    damages: tuple[str, ...],
    outputs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of twelve points has another file damaged: each is named and made again."""
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copytree(made, outputs)
    chosen = one_of_each(outputs)
    done = dict(zip(chosen, cycle(damages)))
    for name, (path, other) in chosen.items():
        DAMAGES[done[name]](path, other)
    capsys.readouterr()
    # What reads the store goes on, and says which files are damaged.
    (page,) = (outputs / "sweeps").glob("*/compare.html")
    page.unlink()
    reported = main(["report"])
    said = "".join(capsys.readouterr())
    assert page.stat().st_size > 100_000
    assert "unexpected" not in said
    assert reported == 1
    # A point without parts.json may be one of an older store.
    unseen = {"parts.json"} if done["parts.json"] == "deleted" else set()
    joined = "".join(said.split())
    assert {name for name, (path, _) in chosen.items() if str(path) not in joined} == unseen
    assert main(["plan", *POINTS]) == 0
    planned = "".join(capsys.readouterr().out.split())
    assert {name for name, (path, _) in chosen.items() if str(path) not in planned} == set()
    # The same command makes them again, and nothing else.
    assert main(POINTS) == 0
    ran = capsys.readouterr().out
    for path, _ in chosen.values():
        (line,) = [line for line in ran.splitlines() if str(path) in line]
        assert line.endswith("it is made again")
    assert not inventory(outputs, thorough=True).damage(folder.name for folder in points(outputs))
    assert not any(StoredPoint(folder).damage() for folder in points(outputs))
    after = tables(outputs)
    for name, table in tables(made).items():
        assert after[name].equals(table), name
    assert main(["report"]) == 0
    assert main(["plan", *POINTS]) == 0
    assert "12 in the store already" in capsys.readouterr().out


@pytest.mark.parametrize("damages", MIXED)
def test_files_of_batches(
    begun: Path,
    damages: tuple[str, ...],
    outputs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of five points in progress has another file damaged: its batches are decoded again."""
    shutil.copytree(begun, outputs)
    folders = points(outputs)
    silent = []
    for index, name in enumerate(BATCH_FILES):
        path = folders[index] / "partial" / name
        damage = damages[index % len(damages)]
        DAMAGES[damage](path, folders[index - 1] / "partial" / name)
        if damage == "deleted" or not name.endswith(".parquet"):
            silent.append(name)
    capsys.readouterr()
    assert main(BATCHES) == 0
    said = capsys.readouterr().out
    for index, name in enumerate(BATCH_FILES):
        assert name in silent or str(folders[index] / "partial" / name) in said
    assert not list(outputs.rglob("partial"))
    for folder in folders:
        stored = StoredPoint(folder)
        assert stored.damage() is None
        rows = stored.columns("generations", ["prompt_id", "sample", "output_tokens"])
        assert len(set(rows["prompt_id"])) == len(rows["prompt_id"]) == 2
        assert stored.table("tokens").num_rows == sum(rows["output_tokens"])


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("points/*/drift/000000.safetensors", 1),
        pytest.param("points/*/drift/index.json", 1, marks=pytest.mark.slow),
        pytest.param("drift/heads/*.safetensors", 2, marks=pytest.mark.slow),
    ],
)
def test_what_a_reference_keeps(made: Path, name: str, runs: int, outputs: Path) -> None:
    """A damaged file of a reference is made again where a point lacks its drift; none fails for ever."""
    shutil.copytree(made, outputs)
    for path in list(outputs.glob(name)):
        flip(path, path)
    lost = next(outputs.glob("points/*/drift.parquet"))
    lost.unlink()
    for _ in range(runs):
        assert main(POINTS) == 0
    assert pq.read_table(lost).num_rows > 0


def test_other_points_are_synced_and_replayed(
    made: Path, outputs: Path, store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copytree(made, outputs, dirs_exist_ok=True)
    damaged, whole, *_ = points(outputs)
    path = damaged / "tokens.parquet"
    flip(path, path)
    assert main(["sync"]) == 1
    said = capsys.readouterr().out
    assert f"{path} " in said
    assert "11 of 12 points logged" in said or "11 of 11 points logged" in said
    assert main(["replay", whole.name, "decoding.top_p=0.5"]) == 0
    capsys.readouterr()
    assert main(["replay", damaged.name, "decoding.top_p=0.5"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert str(path) in line


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", ["plan.json", "feedback.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_files_of_sweeps(
    made: Path, damage: str, name: str, outputs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (outputs / "points").parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(made / "sweeps", outputs / "sweeps")
    (outputs / "points").symlink_to(made / "points")
    (folder,) = (outputs / "sweeps").iterdir()
    texts = dict.fromkeys(("label", "prompt_id", "name", "comment", "source"), "text")
    (folder / "feedback.json").write_text(json.dumps([{**texts, "sample": 0, "value": 1.0}]))
    other = tmp_path / name
    other.write_text(
        json.dumps({"sweep_id": "0123456789", "points": []}) if name == "plan.json" else '{"a": 1}'
    )
    DAMAGES[damage](folder / name, other)
    capsys.readouterr()
    status = main(["report", folder.name])
    said = capsys.readouterr()
    assert "unexpected" not in said.out + said.err
    if name == "feedback.json":
        assert status == 0
    else:
        assert status == 2
        (line,) = said.err.strip().splitlines()
        assert str(folder / name) in line or "no sweep was run" in line


def test_a_plan_of_another_version(made: Path, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a newer version adds is left out; what an older one lacks is named."""
    shutil.copytree(made / "sweeps", outputs / "sweeps")
    (outputs / "points").symlink_to(made / "points")
    (folder,) = (outputs / "sweeps").iterdir()
    path = folder / "plan.json"
    plan = json.loads(path.read_text())
    del plan["check"]
    plan["points"][0]["novelty"] = plan["novelty"] = 1
    path.write_text(json.dumps(plan))
    assert main(["report", folder.name]) == 0
    del plan["started"]
    path.write_text(json.dumps(plan))
    capsys.readouterr()
    assert main(["report", folder.name]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "of another version" in line
    assert "started" in line


def test_numbers_that_are_not_finite(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    """A custom metric's NaN and infinities count as missing, and the point is done."""
    (tmp_path / "mine.py").write_text(
        "def odd(generated):\n    return float(['nan', 'inf', '-inf'][hash(generated.prompt_id) % 3])\n"
    )
    words = [
        *SWEEP,
        "decoding=greedy,top_p",
        "quantization=fp32",
        f"compare.metrics=[{tmp_path}/mine.py:odd]",
    ]
    assert main(words) == 0, capsys.readouterr()
    for folder in points(outputs):
        assert "own/odd" not in StoredPoint(folder).metrics()["metrics"]
        assert StoredPoint(folder).columns("generations", ["own_odd"])["own_odd"] == [None, None]
