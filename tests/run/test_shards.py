"""Workers that share a group: the same tables as one process makes, whoever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forked import Forked
from forked_workers import HEAD, kill_at_random
from planned_sweep import planned

from harness.run.planned_points import write_points

SWEEP = [
    "-m",
    "model=fable_tiny",
    "quantization=bf16",
    "decoding=greedy,top_p,beam",
    "prompts.limit=8",
    "generation.max_new_tokens=8",
    "engine.batch_rows=4",
    "timing=off",
    "tracking=off",
]
"""In low precision, where a text's bits depend on its batch: two strategies in four batches, one in two."""

# Notes each batch, and takes its time; on a machine of its own, as its locks see it.
WORKER = """
import os, sys, time
from harness.artifacts import family_decoding
from harness.cli.main import main
from harness.store import heartbeat_lock
heartbeat_lock.BEAT_S, heartbeat_lock.STALE_S = 0.1, 1.5
heartbeat_lock.this_host = lambda: os.environ["NODE"]
honest = family_decoding._answers

def noted(requests, bench, failed):
    with open(os.environ["NOTES"], "a") as notes:
        print(*sorted({request.prompt.id for some in requests.values() for request in some}), file=notes)
    time.sleep(float(os.environ["TAKES"]))
    return honest(requests, bench, failed)

family_decoding._answers = noted
sys.exit(main())
"""

Start = Callable[..., Forked]


def tables(outputs: Path) -> dict[str, pa.Table]:
    """Every table; of the times only whose they are."""
    found = {}
    for path in sorted((outputs / "points").glob("*/*.parquet")):
        columns = ["prompt_id", "sample"] if path.name == "times.parquet" else None
        found[f"{path.parent.name}/{path.name}"] = pq.read_table(path, columns=columns)
    return found


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """The tables that one process makes."""
    output, folder = tmp_path_factory.mktemp("output"), tmp_path_factory.mktemp("serial")
    code = "import sys; from harness.cli.main import main; sys.exit(main())"
    process = Forked(code, SWEEP, folder, {**os.environ, "HARNESS_OUTPUTS": str(folder)}, output)
    assert process.wait() == 0, process.stdout + process.stderr
    process.close()
    return tables(folder)


@pytest.fixture
def start(forked: Callable[..., Forked], outputs: Path, tmp_path: Path) -> Start:
    """`start(1, 3, takes=0.5)`: a worker with its share of the only group, running on a node of its own."""
    plan = planned(*SWEEP)
    write_points(plan)

    def start(worker: int, workers: int, takes: float = 0.0, node: str = "") -> Forked:
        words = ("worker", str(plan.folder), "--group", "0", "--shard", f"{worker}/{workers}")
        notes = str(tmp_path / f"notes-{worker}")
        return forked(*words, code=WORKER, NOTES=notes, TAKES=str(takes), NODE=node or f"node{worker}")

    return start


def outcomes(worker: Forked) -> dict[int, str]:
    told = [json.loads(line) for line in worker.stdout.splitlines() if line.startswith("{")]
    return {line["outcome"]["job"]: line["outcome"]["status"] for line in told if "outcome" in line}


def batches(folder: Path) -> list[str]:
    """The prompts of each batch that was begun, by any worker."""
    return [line for path in sorted(folder.glob("notes-*")) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("locks", ["auto", pytest.param("files", marks=pytest.mark.slow)])
def test_workers_that_start_at_once_share_the_batches(
    locks: str,
    start: Start,
    serial: dict[str, pa.Table],
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HARNESS_LOCKS", locks)
    workers = [start(number, 3, takes=0.1) for number in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0], [worker.stderr for worker in workers]
    assert tables(outputs) == serial
    # None was decoded twice: four of the two that decode together, and two of beam search.
    assert len(batches(tmp_path)) == 6
    told = [outcomes(worker) for worker in workers]
    for job in range(3):
        assert [some.get(job) for some in told].count("done") == 1
    assert not list((outputs / "points").glob("*/partial"))
    assert not [path.name for path in (outputs / ".lock").iterdir() if "batch" in path.name]


@pytest.mark.parametrize(
    ("killed", "locks"),
    [
        ("leads", "files"),
        ("helps", "auto"),
        pytest.param("leads", "auto", marks=pytest.mark.slow),
        pytest.param("helps", "files", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_is_killed_with_a_batch_in_work(
    killed: str,
    locks: str,
    start: Start,
    serial: dict[str, pa.Table],
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HARNESS_LOCKS", locks)
    first = start(0, 2, takes=600 if killed == "leads" else 0.5)
    first.until(lambda: bool(batches(tmp_path)))
    second = start(1, 2, takes=600 if killed == "helps" else 0)
    if killed == "helps":
        second.until((tmp_path / "notes-1").exists)
        time.sleep(0.3)
        second.send(signal.SIGKILL)
        assert second.wait() == -signal.SIGKILL
        assert first.wait() == 0, first.stderr
        assert sorted(outcomes(first)) == [0, 1, 2]
    else:
        # It decodes all but one batch, and does not wait for that one.
        assert second.wait() == 0, second.stderr
        assert not {0, 1} & outcomes(second).keys()
        first.send(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
        before = batches(tmp_path)
        again = start(0, 2, node="elsewhere")
        assert again.wait() == 0, again.stderr
        assert len(batches(tmp_path)) == len(before) + 1
        assert set(outcomes(again)) >= {0, 1}
    assert tables(outputs) == serial


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_killed_the_tables_are_the_same(
    seed: int, serial: dict[str, pa.Table], forked: Callable[..., Forked], tmp_path: Path, outputs: Path
) -> None:
    rng = random.Random(seed)
    words = [*SWEEP, "engine.shards=3", "hydra/launcher=local_gpus", "hydra.launcher.workers=3"]
    workers = tmp_path / "workers"
    head = forked(*words, code=HEAD, WORKERS=str(workers))
    for number in range(rng.choice([1, 2])):
        killed = kill_at_random(head, workers, outputs, rng, len(serial), spare_head=bool(seed % 4))
        assert killed or number
    head.wait()
    again = forked(*words, code=HEAD, WORKERS=str(workers))
    assert again.wait() == 0, again.stdout + again.stderr
    assert tables(outputs) == serial
    assert not list((outputs / "points").glob("*/partial"))
