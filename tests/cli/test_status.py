"""How real sweeps end that fail or are interrupted: the exit status, the output, and what is stored."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import Forked
from mlflow_runs import runs

from harness.cli.main import main
from harness.errors import ConfigError


def test_status_1_when_a_point_fails_and_the_rest_is_kept(
    forked: Callable[..., Forked], small_model: Callable[..., Path], outputs: Path
) -> None:
    models = f"model.id={small_model('llama', fits=False)},{small_model('llama')}"
    words = ["-m", "model=custom", models, "prompts.limit=1", "generation.max_new_tokens=4", "timing=off"]
    done = forked(*words, "tracking=off")
    assert done.wait() == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "1/2 failed" in done.stdout
    assert "2/2 done" in done.stdout
    assert len(list((outputs / "points").glob("*/generations.parquet"))) == 1


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_a_sweep(
    number: signal.Signals, status: int, forked: Callable[..., Forked], store: str, outputs: Path
) -> None:
    process = forked(
        "-m", "model=fable_tiny", "quantization=fp32", "decoding=top_p", "engine.fuse=false",
        "generation.seed=range(0,200)", "generation.max_new_tokens=64", "engine.threads=1", "timing=off",
    )  # fmt: skip
    process.until(lambda: "1/200 done" in process.stdout)
    process.send(number)
    assert process.wait() == status, process.stderr
    assert "Traceback" not in process.stdout + process.stderr
    assert process.stderr.strip().endswith("interrupted")
    assert "of 200 points are kept; the same command resumes from here" in process.stdout
    (parent,) = runs(store, "sweep")
    assert parent.info.status == "KILLED"
    children = runs(store, "generation")
    assert {run.info.status for run in children} == {"FINISHED"}
    assert 1 <= len(children) < 200
    plan = json.loads(next((outputs / "sweeps").glob("*/plan.json")).read_text())
    statuses = [point["status"] for point in plan["points"]]
    assert set(statuses) == {"done", "interrupted"}
    assert not list(outputs.rglob("*.part"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("taken_for", [ConfigError.of("key", "is wrong"), RuntimeError("no module"), None])
def test_a_signal_while_composing(
    number: signal.Signals, status: int, taken_for: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library may make another error of the interruption; the status is the interruption's."""

    def compose(*_: object) -> int:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:
            if taken_for is not None:
                raise taken_for from error
            raise
        return 0

    monkeypatch.setattr("harness.cli.main.app.run", compose)
    assert main(["model=fable_tiny"]) == status
