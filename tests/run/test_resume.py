"""A sweep survives `kill -9`: the same command ends in the same tables as a run nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forked import Forked
from mlflow_runs import runs

COMMAND = [
    "-m",
    "model=fable_tiny",
    "quantization=fp32",
    "decoding=greedy,top_p,temperature,repetition_penalty,beam",
    "generation.samples=1",
    "generation.max_new_tokens=40",
    "engine.batch_rows=8",
    "engine.threads=1",
    "timing=off",
]


def tables(outputs: Path) -> dict[str, pa.Table]:
    """Every table; of the times only whose they are."""
    found = {}
    for path in sorted((outputs / "points").glob("*/*.parquet")):
        columns = ["prompt_id", "sample"] if path.name == "times.parquet" else None
        found[f"{path.parent.name}/{path.name}"] = pq.read_table(path, columns=columns)
    return found


def files_in(outputs: Path) -> int:
    """How many files and folders there are, while others come and go."""
    return sum(len(folders) + len(names) for _, folders, names in os.walk(outputs))


def metrics(outputs: Path) -> dict[str, dict[str, Any]]:
    """metrics.json of every point, less what was measured by the clock."""
    found = {}
    for path in (outputs / "points").glob("*/metrics.json"):
        known = json.loads(path.read_text())
        for key in [key for key in known["metrics"] if key.startswith(("throughput", "memory", "latency"))]:
            del known["metrics"][key]
        found[path.parent.name] = known
    return found


def told(outputs: Path) -> list[tuple[str, str, str]]:
    """(kind, label, status) of every run that MLflow holds."""
    store = f"sqlite:///{outputs / 'mlflow.db'}"
    return sorted(
        (kind, run.data.tags.get("label", ""), run.info.status)
        for kind in ("sweep", "generation")
        for run in runs(store, kind)
    )


def survive(forked: Callable[..., Forked], migrated: Path, tmp_path: Path, kills: int) -> None:
    """Kill the sweep at random moments until it is through, and again from nothing until `kills` are used."""

    def empty(name: str) -> Path:
        outputs = tmp_path / name / "outputs"
        outputs.mkdir(parents=True)
        shutil.copyfile(migrated, outputs / "mlflow.db")
        return outputs

    def start(outputs: Path) -> Forked:
        return forked(*COMMAND, folder=outputs.parent, HARNESS_OUTPUTS=str(outputs))

    undisturbed = empty("calm")
    calm = start(undisturbed)
    assert calm.wait() == 0, calm.stderr
    expected = tables(undisturbed)
    total = files_in(undisturbed)
    luck = random.Random(0)
    lives = 0
    while kills:
        outputs = empty(f"life-{lives}")
        lives += 1
        status = -signal.SIGKILL
        while status == -signal.SIGKILL:
            process = start(outputs)
            if kills:
                # Counted in files: however busy the machine, none falls into the start, which proves little.
                enough = files_in(outputs) + luck.randint(1, total // 3)
                process.until(lambda outputs=outputs, n=enough: files_in(outputs) >= n)
                time.sleep(luck.uniform(0, 0.1))
                process.send(signal.SIGKILL)
            status = process.wait()
            kills -= status == -signal.SIGKILL
        assert status == 0, process.stderr
        found = tables(outputs)
        assert found.keys() == expected.keys()
        for name, table in expected.items():
            assert found[name].equals(table), name
        assert metrics(outputs) == metrics(undisturbed)
        assert not list((outputs / "points").glob("*/partial"))
        assert told(outputs) == told(undisturbed)
        assert {status for _, _, status in told(outputs)} == {"FINISHED"}


# Told by its rename, so that the kill is between a file's last byte and its name.
KILLED = """
import os, signal, sys
from harness.cli.main import main
_, name, *words = sys.argv
honest = os.replace
def replace(old, new):
    if str(new).endswith(name):
        os.kill(os.getpid(), signal.SIGKILL)
    honest(old, new)
os.replace = replace
sys.exit(main(words))
"""


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["/generations.parquet", "/plan.json", "/compare.html"])
def test_nothing_half_written_is_left(forked: Callable[..., Forked], outputs: Path, name: str) -> None:
    words = [word for word in COMMAND if not word.startswith("decoding=")] + ["tracking=off"]
    killed = forked(name, *words, code=KILLED)
    assert killed.wait() == -signal.SIGKILL, killed.stdout + killed.stderr
    assert forked(*words).wait() == 0
    assert not list(outputs.rglob("*.part"))


@pytest.mark.slow
def test_twenty_kills(forked: Callable[..., Forked], migrated: Path, tmp_path: Path) -> None:
    survive(forked, migrated, tmp_path, 20)


def test_a_kill_while_batches_are_deleted_leaves_none_for_good(
    forked: Callable[..., Forked], outputs: Path
) -> None:
    words = [word for word in COMMAND if not word.startswith("decoding=")] + ["tracking=off"]
    assert forked(*words).wait() == 0
    (point,) = (outputs / "points").iterdir()
    (point / "partial").mkdir()
    (point / "partial" / "plan.json").write_text("{}")
    (point / "metrics.json").unlink()  # made after the samples, whose batches were being deleted
    assert forked(*words).wait() == 0
    assert not (point / "partial").exists()
