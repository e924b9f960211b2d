"""The side of a node without Ray: a worker in a store of its own, its files before what it tells of them."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.run.ray import ray_actor
from harness.run.ray.parcels import Chunk, Complete, Dropped, Folder, Inbox, Outbox
from harness.run.ray.ray_actor import GroupRunner, Report, Run, Shipment

POINT = Folder("points/aa", whole=True)
WORKER = """\
import json, os, sys, time
from pathlib import Path
sweep = Path(sys.argv[1])
facts = json.loads((sweep / "points.json").read_text())
store = Path(facts["outputs"])
assert sweep.parent.parent == store
assert os.getcwd() == facts["folder"]
assert Path("mine.txt").read_text() == "A fox"
assert Path("model").resolve().name == "weights"
assert (store / "points/aa/kept").read_text() == "batch 0"
assert sys.argv[2:4] == ["--group", "1"]
assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
print("out of paper", file=sys.stderr, flush=True)
(store / "points/aa/tokens").write_text("batch 0 and 1")
(store / "points/aa/kept").unlink()
print("a library that prints")
print(json.dumps({"outcome": {"job": 0}}), flush=True)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nodes keep temporary files."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """A head's store and working folder."""
    for path, text in (("store/points/aa/kept", "batch 0"), ("work/mine.txt", "A fox"), ("weights/x", "1")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def prepared(head: Path) -> GroupRunner:
    runner = GroupRunner()
    files = Folder("", files=("mine.txt",))
    links = {"model": str(head / "weights"), "elsewhere": "/no/such/folder"}
    facts = json.dumps({"outputs": "/head/outputs", "folder": "/head/work"})
    runner.prepare(Shipment(facts, (Folder("points/aa"),), files, links, (POINT,)))
    runner.receive("outputs", list(Outbox(head / "store", (Folder("points/aa"),)).parcels()))
    runner.receive("work", list(Outbox(head / "work", (files,)).parcels()))
    return runner


def run(code: str, *, shared: str = "/head/work") -> Run:
    words = ("--group", "1")
    return Run(("-I", "-S", "-c", code), words, {}, shared, "/head/outputs/sweeps/it-1", "cpu")


def until(reached: Callable[[Report], bool], runner: GroupRunner) -> list[Report]:
    reports = [runner.poll()]
    started = time.monotonic()
    while not reached(reports[-1]):
        assert time.monotonic() - started < 60
        reports.append(runner.poll())
    return reports


def test_files_come_before_what_is_told_of_them(place: Path, head: Path) -> None:
    runner = prepared(head)
    runner.begin(run(WORKER))
    reports = until(lambda report: report.status is not None, runner)
    assert b"".join(report.log for report in reports).decode() == "out of paper\n"
    assert reports[-1].status == 0
    told = [line for report in reports for line in report.lines]
    assert told == [{"outcome": {"job": 0}}]
    first = next(number for number, report in enumerate(reports) if report.lines)
    box = Inbox(head / "store", head / "store/arriving", (POINT,))
    for report in reports[:first]:
        for parcel in report.parcels:
            box.put(parcel)
    found = {path.name: path.read_text() for path in (head / "store/points/aa").iterdir()}
    assert found == {"tokens": "batch 0 and 1"}
    assert not [path for path in place.iterdir() if path.name.startswith("harness-ray-")]


def test_batches_come_back_while_it_runs_and_it_ends_when_asked(
    place: Path, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_actor, "_SCAN_S", 0.1)
    runner = prepared(head)
    code = (
        "import json, sys, time; from pathlib import Path; "
        "store = Path(json.loads((Path(sys.argv[1]) / 'points.json').read_text())['outputs']); "
        "(store / 'points/aa/batch1').write_text('1'); time.sleep(60)"
    )
    runner.begin(run(code))
    reports = until(lambda report: bool(report.parcels), runner)
    kinds = [type(parcel) for parcel in reports[-1].parcels if not isinstance(parcel, Dropped)]
    assert kinds == [Chunk, Complete]
    runner.stop()
    assert until(lambda report: report.status is not None, runner)[-1].status == -15


def test_a_node_refuses_files_that_lead_elsewhere(place: Path, head: Path) -> None:
    runner = prepared(head)
    for kind, folder, name in (
        ("outputs", "points/aa", "../../../evil"),
        ("outputs", "points/bb", "x"),
        ("work", "", "other.txt"),
        ("work", "", "../evil"),
    ):
        with pytest.raises(StoreError):
            runner.receive(kind, [Chunk(folder, name, 0, b"x")])
    assert not list(place.rglob("evil"))
    runner.kill()


def test_in_a_shared_store_it_works_where_the_head_does(place: Path, head: Path) -> None:
    assert GroupRunner().sees(str(head / "work/mine.txt"), "A fox")
    assert not GroupRunner().sees(str(head / "work/mine.txt"), "Another")
    assert not GroupRunner().sees("/no/such/file", "A fox")
    assert GroupRunner().has([str(head / "work")])
    assert not GroupRunner().has([str(head / "work"), "/no/such/folder"])
    runner = GroupRunner()
    runner.begin(run("import os, sys; print(os.getcwd(), *sys.argv[1:], file=sys.stderr)", shared=str(head)))
    reports = until(lambda report: report.status is not None, runner)
    words = b"".join(report.log for report in reports).decode().split()
    assert words[:4] == [str(head), "/head/outputs/sweeps/it-1", "--group", "1"]
    assert words[4] == "--shared"
    assert Path(words[5]).parent.parent == place, "workers of one node take turns, whoever's they are"


def test_stores_of_runners_that_were_killed_are_removed(place: Path, head: Path) -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    abandoned, own = place / ray_actor.place_prefix(pid), place / ray_actor.place_prefix(os.getpid())
    for folder in (abandoned, own, place / "harness-ray-4026531836-x-1", place / "harness-ray-1"):
        folder.mkdir()
    runner = prepared(head)
    assert not abandoned.exists()
    assert own.exists()
    assert (place / "harness-ray-4026531836-x-1").exists()
    assert (place / "harness-ray-1").exists()
    runner.kill()
