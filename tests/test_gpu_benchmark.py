"""The GPU's benchmark, known to work before there is a GPU: all of it on the CPU, on models of two layers."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from harness.config.point import Model, Quantization
from harness.models.load import footprint_bytes, read_model
from harness.models.quantize import quantized_modules
from tests.benchmarks import gpu, gpu_steps
from tests.benchmarks.contend import contend
from tests.benchmarks.gpu_clock import union
from tests.benchmarks.gpu_models import BF16, NF4, SHAPES, Shape, bytes_read, make, quantize_4bit, target_of
from tests.benchmarks.gpu_report import Report

TINY = ["--tiny", "--device", "cpu"]


def rows_of(report: Report, section: str) -> list[dict[str, Any]]:
    """Return the numbers of a section."""
    return [row.numbers for row in report.rows if row.section == section]


@pytest.fixture(scope="module")
def made() -> Any:
    """The Llama shape in small, bf16."""
    return make(SHAPES["7b"].tiny(), "cpu")


@pytest.mark.slow
def test_all_of_it_runs_in_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gpu.json"
    report = gpu.main([*TINY, "--json", str(path)])
    assert report is not None
    models = [shape.tiny().name for shape in SHAPES.values()]
    assert {row.model for row in report.rows} == {"", *models}
    skipped = [f"vllm {model}: skipped: vLLM is not installed" for model in models]
    nf4 = "skipped: transformers does not compile bitsandbytes' layers"
    assert sorted(report.notes) == sorted([*skipped, f"compiled {models[-1]}: {nf4}"])
    found = json.loads(path.read_text())
    assert found["machine"]["torch"] == torch.__version__
    assert [row["numbers"] for row in found["rows"]] == [row.numbers for row in report.rows]
    assert all(math.isfinite(value) for row in report.rows for value in row.numbers.values())
    assert capsys.readouterr().out.count("\n") == len(report.rows) + len(report.notes) + 2

    sizes = gpu_steps.TINY
    (copy,) = rows_of(report, "copy")
    steps = rows_of(report, "step")
    assert [row["rows"] for row in steps] == [*sizes.rows] * len(models)
    for row in steps:
        assert 0 < row["floor_ms"] < row["forward_ms"]
        assert row["floor_share"] == pytest.approx(row["floor_ms"] / row["step_ms"])
        assert row["stock_ms"] > 0
    for one, four in zip(steps[::2], steps[1::2], strict=True):
        # Weights are read once: only the cache grows with the rows.
        assert four["cache_bytes"] == 4 * one["cache_bytes"]
        grown = (four["floor_ms"] - one["floor_ms"]) / 1e3 * copy["bandwidth"]
        assert grown == pytest.approx(3 * one["cache_bytes"])
    launches = rows_of(report, "launches")
    assert len(launches) == 2 * len(models)
    assert all(row["kernels"] > 50 and 0 < row["busy_share"] <= 1 for row in launches)
    assert len(rows_of(report, "recording")) == 2 * len(models)
    assert all(row["cost"] > -0.9 for row in rows_of(report, "recording"))
    cases = len(models) * len(sizes.prompts)
    memory = rows_of(report, "memory")
    assert len(memory) == cases
    assert all(0 < row["plan_mb"] < row["sizing_mb"] < row["peak_mb"] for row in memory)
    sweep = rows_of(report, "sweep")
    assert len(sweep) == cases
    for row in sweep:
        assert row["per_strategy"] > 0
        assert row["alone"] > 0
        assert 1 / 8 <= row["rows_per_token"] <= 1
    compiled = rows_of(report, "compiled")
    assert len(compiled) == cases - len(sizes.prompts)
    assert all(row["static"] > 0 and row["compile_s"] > 0 for row in compiled)


@pytest.mark.slow
def test_a_section_that_fails_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("CUDA error: out of luck\nmore lines")

    monkeypatch.setattr(gpu, "steps", fails)
    monkeypatch.setattr(gpu_steps, "Profile", fails)
    report = gpu.main([*TINY, "--models", "7b", "--sections", "step", "launches", "recording"])
    assert report is not None
    name = SHAPES["7b"].tiny().name
    problem = "RuntimeError: CUDA error: out of luck"
    assert report.notes[0] == f"step {name}: failed: {problem}"
    assert all(note.endswith(problem) for note in report.notes)
    assert len(report.notes) == 3
    assert len(rows_of(report, "recording")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("works", [True, False])
def test_steps_are_captured_where_they_can_be(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_steps, "capturable", lambda loaded: True)
    if not works:
        monkeypatch.setattr(gpu_steps, "tree_steps", _refuses_capture)
    report = gpu.main([*TINY, "--models", "7b", "--sections", "step"])
    assert report is not None
    assert [row["captured"] for row in rows_of(report, "step")] == [works] * len(gpu_steps.TINY.rows)
    assert len(report.notes) == (0 if works else 1)


_tree_steps = gpu_steps.tree_steps


def _refuses_capture(bench: Any, requests: Any, capture: bool, **more: Any) -> Any:
    if capture:
        raise RuntimeError("operation not permitted when stream is capturing")
    return _tree_steps(bench, requests, capture, **more)


@pytest.mark.slow
def test_the_time_is_kept() -> None:
    report = gpu.main([*TINY, "--minutes", "0"])
    assert report is not None
    assert {row.section for row in report.rows} == {"copy"}
    assert report.notes[0] == "time 7b: skipped: the 0 minutes are over"


@pytest.mark.slow
def test_without_a_profiler_the_hosts_share_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_steps.Profile, "end", lambda self: self._profile.stop())
    report = gpu.main([*TINY, "--models", "7b", "--sections", "launches"])
    assert report is not None
    assert [note.rpartition("; ")[2] for note in report.notes] == ["the profiler saw no kernels"] * 2
    assert all(0 < row["queued_ms"] <= row["done_ms"] for row in rows_of(report, "launches"))


@pytest.mark.slow
def test_vllm_is_compared_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stand-in: what is asked of it, and how its tokens are counted."""
    asked: list[tuple[int, int]] = []

    class Engine:
        def __init__(self, **options: Any) -> None:
            config = json.loads((Path(options["model"]) / "config.json").read_text())
            assert config["architectures"] == ["LlamaForCausalLM"]
            assert options["load_format"] == "dummy"

        def generate(self, prompts: list[Any], params: Any, use_tqdm: bool) -> list[Any]:
            each = params if isinstance(params, list) else [params] * len(prompts)
            asked.append((len(prompts), len(each)))
            assert all(prompt["prompt_token_ids"] for prompt in prompts)
            return [
                SimpleNamespace(outputs=[SimpleNamespace(token_ids=range(one.max_tokens))]) for one in each
            ]

    module = ModuleType("vllm")
    module.__spec__ = SimpleNamespace(name="vllm")  # type: ignore[assignment]
    module.LLM, module.SamplingParams = Engine, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    report = gpu.main([*TINY, "--models", "7b", "7b-nf4", "--sections", "vllm"])
    assert report is not None
    assert len(rows_of(report, "vllm")) == len(gpu_steps.TINY.prompts)
    assert report.notes == [f"vllm {SHAPES['7b-nf4'].tiny().name}: skipped: it is compared in bf16"]
    assert set(asked) == {(2, 2), (16, 16), (4, 4), (32, 32)}


def test_no_gpu_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() is None
    assert "no CUDA device" in capsys.readouterr().out


def test_a_step_reads_all_weights_but_the_embeddings(made: Any) -> None:
    # By hand, two bytes a value: 2 layers of q and o (64 x 64), k and v (32 x 64), three of 128 x 64, two
    # norms; the last norm and the head of 2000 x 64. Beside them the rotary frequencies, 8 in float32.
    layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 2 * 64
    weights = 2 * (2 * layer + 64 + 2000 * 64)
    assert weights <= bytes_read(made) <= weights + 2 * 8 * 4
    assert target_of(made, SHAPES["7b"].quantization).weight_bytes == weights + 2 * 2000 * 64


def test_its_entropy_is_a_trained_models(made: Any) -> None:
    ids = torch.randint(3, 2000, (1, 32), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        log_p = made.model(ids).logits[0].float().log_softmax(-1)
    assert float(-(log_p.exp() * log_p).sum(-1).mean()) == pytest.approx(2.1, abs=0.5)


def test_four_bits_are_those_of_a_loaded_checkpoint(made: Any, tmp_path: Path) -> None:
    """Quantizing layers in place gives what transformers gives of the same weights on disk."""
    made.model.save_pretrained(tmp_path)
    model = Model(name="tiny", id=str(tmp_path))

    def read(quantization: Quantization) -> Any:
        return read_model(tmp_path, model, quantization, "cpu", "bfloat16", lambda what, fraction: None)

    loaded, own = read(NF4), read(BF16)
    quantize_4bit(own, NF4, "cpu")
    assert quantized_modules(own) == quantized_modules(loaded) == 14
    assert footprint_bytes(own) == footprint_bytes(loaded)
    ids = torch.randint(3, 2000, (1, 16), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        assert own(ids).logits.equal(loaded(ids).logits)


def test_time_at_work_counts_overlaps_once() -> None:
    assert union([]) == 0
    assert union([(5, 6), (0, 2), (1, 3), (1, 1.5)]) == 4


def test_turns_end_with_their_time() -> None:
    turns: list[int] = []

    def turn() -> int:
        turns.append(1)
        return 1

    contend({"one": turn}, 5, warmup=1, seconds=0)
    assert len(turns) == 2, "the one that warms up, and the first"


def test_shapes_are_those_of_their_models() -> None:
    """Parameters of Llama-2-7B and of Qwen2-0.5B with a head of its own, as published and by hand."""

    def parameters(shape: Shape) -> int:
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.for_model(shape.model_type, **shape.values, tie_word_embeddings=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config).num_parameters()

    assert parameters(SHAPES["7b"]) == 6_738_415_616
    assert parameters(SHAPES["0.5b"]) == 494_032_768 + 151_936 * 896
