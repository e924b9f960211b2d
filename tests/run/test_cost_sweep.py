"""timing=llm_perf in a sweep: once per model, quantization and cache; reused, copied, exported."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts.measure_cost import Measuring
from harness.backends.hf.model_runs import ModelRuns
from harness.cli.main import main

QUICK = ["timing=llm_perf", "timing.prompt_tokens=8", "timing.new_tokens=4", "timing.warmup=0",
         "timing.repeats=2", "timing.min_seconds=0"]  # fmt: skip
BASE = ["-m", "model=fable_tiny", "prompts.limit=2", "generation.max_new_tokens=4", "engine.threads=1",
        "compare.noise=false", "tracking=off"]  # fmt: skip
SWEEP = [*BASE, *QUICK, "quantization=fp32,bf16", "decoding=greedy,top_p"]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The shapes that were measured, one entry a measurement."""
    found: list[Any] = []
    honest = Measuring.cost

    def counted(self: Measuring, timing: Any, open_meter: Callable[[], Any]) -> Any:
        found.append(self._shape)
        return honest(self, timing, open_meter)

    monkeypatch.setattr(Measuring, "cost", counted)
    return found


def metrics_of(outputs: Path) -> dict[str, dict[str, float]]:
    """The metrics of each point by its label."""
    (plan,) = (outputs / "sweeps").glob("*/plan.json")
    return {
        point["label"]: json.loads((outputs / "points" / point["point_id"] / "metrics.json").read_text())[
            "metrics"
        ]
        for point in json.loads(plan.read_text())["points"]
    }


def test_a_model_is_measured_once_for_all_its_strategies(outputs: Path, measured: list[Any]) -> None:
    assert main(SWEEP) == 0
    assert len(measured) == 2
    assert len(list((outputs / "costs").glob("*.json"))) == 2
    found = metrics_of(outputs)
    for quantization in ("fp32", "bf16"):
        greedy, top_p = (found[f"fable_tiny/{quantization}/{name}"] for name in ("greedy", "top_p"))
        costs = {key: value for key, value in greedy.items() if key.startswith("cost/")}
        assert costs == {key: value for key, value in top_p.items() if key.startswith("cost/")}
        assert costs["cost/prefill_p50_ms"] > 0
        assert costs["cost/decode_tokens_per_s"] > 0
        assert 100 < costs["cost/max_used_mb"] < 100_000
        assert not [key for key in greedy if key.startswith("latency/") and "load" not in key]
    assert main([*SWEEP, "decoding=greedy,min_p"]) == 0
    assert len(measured) == 2, "a resumed sweep, or one with other strategies, measures nothing again"
    assert main([*SWEEP, "engine.fresh=true"]) == 0
    assert len(measured) == 4


def test_a_cache_is_measured_by_itself_and_a_latency_pass_leaves_the_cost(
    outputs: Path, measured: list[Any]
) -> None:
    caches = [*BASE, *QUICK, "quantization=fp32", "decoding=greedy", "cache=default,quantized_fp8"]
    assert main(caches) == 0
    assert [shape.cache is None for shape in measured] == [True, False]
    times = ["timing=quick", "timing.prompts=1", "timing.repeats=1", "timing.new_tokens=3"]
    assert main([*caches[: len(BASE)], *times, *caches[len(BASE) + len(QUICK) :]]) == 0
    assert len(measured) == 2
    for metrics in metrics_of(outputs).values():
        assert {"cost/decode_tokens_per_s", "latency/itl_p50_ms"} <= metrics.keys()


def test_a_damaged_cost_is_measured_again(outputs: Path, measured: list[Any]) -> None:
    sweep = [*BASE, *QUICK, "quantization=fp32", "decoding=greedy"]
    assert main(sweep) == 0
    (point,) = (outputs / "points").iterdir()
    whole = json.loads((point / "cost.json").read_text())
    (point / "cost.json").write_text("{")
    assert main(sweep) == 0
    assert len(measured) == 1, "the copy that all points share is whole"
    assert json.loads((point / "cost.json").read_text()) == whole
    assert main([word.replace("repeats=2", "repeats=3") for word in sweep]) == 0
    assert len(measured) == 2, "another way to measure"
    for file in (*(outputs / "costs").iterdir(), point / "cost.json"):
        file.write_text("{")
    assert main(sweep) == 0
    assert len(measured) == 3


def test_the_leaderboards_columns(
    outputs: Path, measured: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(SWEEP) == 0
    assert main(["report", "--llm-perf"]) == 0
    assert "llm_perf.csv" in capsys.readouterr().out
    (file,) = (outputs / "sweeps").glob("*/llm_perf.csv")
    with file.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert list(rows[0]) == [
        "Experiment", "Model", "Prefill (s)", "Per Token (s)", "Decode (tokens/s)", "Energy (tokens/kWh)",
        "Memory (MB)", "Backend", "Precision", "Quantization", "Attention", "Kernel", "Architecture",
        "End-to-End (s)", "Open LLM Score (%)", "Params (B)",
    ]  # fmt: skip
    assert [row["Experiment"] for row in rows] == ["fable_tiny/fp32", "fable_tiny/bf16"]
    first = rows[0]
    found = metrics_of(outputs)["fable_tiny/fp32/greedy"]
    assert float(first["Prefill (s)"]) == pytest.approx(found["cost/prefill_p50_ms"] / 1e3)
    assert float(first["Decode (tokens/s)"]) == pytest.approx(found["cost/decode_tokens_per_s"])
    assert (first["Precision"], first["Architecture"]) == ("float32", "LlamaForCausalLM")
    assert float(first["Params (B)"]) == pytest.approx(0.41024e-3)
    assert first["Energy (tokens/kWh)"] == first["Memory (MB)"] == first["Kernel"] == ""


def test_without_costs_the_csv_says_what_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BASE, "timing=off", "quantization=fp32", "decoding=greedy"]) == 0
    capsys.readouterr()
    assert main(["report", "--llm-perf"]) == 2
    assert (
        "no run has the cost of its model; run the sweep again with timing=llm_perf"
        in capsys.readouterr().err
    )


class _Counter:
    """An energy counter that goes up by three joules each time it is read."""

    source = "a counter"

    def __init__(self) -> None:
        self._joules = 0.0

    def joules(self) -> float:
        self._joules += 3.0
        return self._joules

    def check_alone(self, *, idle: bool = False) -> None:
        pass


def test_energy_of_a_sweep_is_shared_by_what_is_decoded_together(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelRuns, "energy_meter", lambda self, alone=True: _Counter())
    monkeypatch.setattr("harness.artifacts.batch_energy.WINDOW_S", 0.0)
    sweep = [*BASE, "timing=off", "quantization=fp32", "decoding=greedy,top_p", "generation.ignore_eos=true"]
    assert main([*sweep, "engine.batch_rows=2"]) == 0
    # Two batches of one prompt, each with three joules: 2 strategies x 2 prompts x 4 tokens.
    assert [m["energy/j_per_token"] for m in metrics_of(outputs).values()] == [6.0 / 16] * 2


def test_no_counter_no_energy(outputs: Path) -> None:
    assert main([*BASE, "timing=off", "quantization=fp32", "decoding=greedy"]) == 0
    (metrics,) = metrics_of(outputs).values()
    assert not [key for key in metrics if key.startswith("energy/")]


def test_a_prompt_that_does_not_fit_has_a_cure_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "model=fable_tiny", "decoding=greedy", "timing=llm_perf"]
    assert main([*words, "timing.prompt_tokens=500"]) == 2
    line = capsys.readouterr().err
    assert "timing.prompt_tokens=500: with timing.new_tokens=64 they are more than the context of 512" in line
    cure = line.split("; use ")[1].strip()
    assert cure == "timing.prompt_tokens=448"
    assert main([*words, cure]) == 0
    assert main([*words, "timing.new_tokens=600"]) == 2
    assert capsys.readouterr().err.strip().endswith("use timing=off")
