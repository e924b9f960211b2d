"""A sweep on a CUDA device, and what is measured there: memory, and times after the device is done."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from harness.backends.backend import Request
from harness.backends.hf.latency_pass import time_strategy
from harness.cli.doctor import TRIED
from harness.cli.main import main
from harness.config.point import Timing
from harness.models.memory import peak_memory_mb, reset_peak_memory
from harness.models.quantize import uses_bitsandbytes

TRIED_HERE = [
    one
    for one in TRIED
    if (one.torchao is None or find_spec("torchao"))
    and (not uses_bitsandbytes(one) or find_spec("bitsandbytes"))
]
CHOICES = [quantization.name for quantization in TRIED_HERE]


@pytest.mark.parametrize("quantization", CHOICES)
def test_every_quantization_runs_a_sweep(quantization: str, device: str, outputs: Path) -> None:
    words = [
        "-m", "model=fable_tiny", f"model.device={device}", f"quantization={quantization}", "tracking=off",
        "decoding=greedy,top_p,beam", "prompts.limit=2", "generation.max_new_tokens=8",
        "timing=quick", "timing.prompts=1", "timing.repeats=2", "timing.new_tokens=4",
    ]  # fmt: skip
    assert main(words) == 0
    (plan,) = (outputs / "sweeps").glob("*/plan.json")
    for point in json.loads(plan.read_text())["points"]:
        folder = outputs / "points" / point["point_id"]
        metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
        assert -20 < metrics["probability/mean_logprob"] < 0, "finite, and not of a broken model"
        assert metrics["memory/peak_mb"] > metrics["memory/weights_mb"] > 0
        assert metrics["latency/total_p50_ms"] > 0
        steps = pq.read_table(folder / "tokens.parquet").to_pylist()
        assert all(abs(step["logprob"]) < 100 and 0 <= step["entropy"] < 10 for step in steps)
        environment = json.loads((folder / "environment.json").read_text())
        assert device in json.dumps(environment)


@pytest.mark.parametrize("quantization", TRIED_HERE, ids=CHOICES)
def test_logits_stay_near_fp32(quantization: Any, on_device: Any) -> None:
    reference, loaded = on_device("llama"), on_device("llama", quantization)
    ids = torch.randint(10, 300, (2, 24), generator=torch.Generator().manual_seed(3)).to(loaded.device)
    with torch.inference_mode():
        p, q = (m.model(ids).logits.double().log_softmax(-1) for m in (reference, loaded))
    assert torch.isfinite(q).all()
    # Random weights suffer more than trained ones; a broken kernel costs nats.
    near = 1.0 if quantization.load_in_4bit or "int4" in str(quantization.torchao) else 0.05
    assert float((p.exp() * (p - q)).sum(-1).mean()) < near


@pytest.mark.only_cuda
def test_peak_memory_is_the_devices(device: str) -> None:
    reset_peak_memory(device)
    before = peak_memory_mb(device)
    block = torch.zeros(64 * 2**20, dtype=torch.uint8, device=device)
    assert peak_memory_mb(device) == pytest.approx(before + 64, abs=1)
    del block
    assert peak_memory_mb(device) == pytest.approx(before + 64, abs=1)
    reset_peak_memory(device)
    assert peak_memory_mb(device) == pytest.approx(before, abs=1)


@pytest.mark.only_cuda
def test_latency_waits_for_the_device(
    on_device: Any, requests_of: Any, strategy_of: Any, device: str
) -> None:
    """Work that is only queued returns at once: a clock that did not wait would not see it."""
    loaded = on_device("llama")
    prompts = [requests_of(loaded, strategy_of(loaded))[0].prompt]
    big = torch.randn(8192, 8192, device=device)

    def burden(*_: Any) -> None:
        torch.mm(big, big)

    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    burden()
    begin.record()
    burden()
    end.record()
    torch.cuda.synchronize()
    cost = begin.elapsed_time(end)
    timing = Timing(name="x", prompts=1, repeats=3, warmup=1, new_tokens=5)

    def median_itl(**fields: Any) -> float:
        requests = [Request(prompt, 0, strategy_of(loaded, **fields)) for prompt in prompts]
        repetitions = time_strategy(loaded, requests, timing, context_length=None)
        gaps = sorted(gap for repetition in repetitions for gap in repetition.itl_ms)
        return gaps[len(gaps) // 2]

    plain = median_itl()
    handle = loaded.model.register_forward_hook(burden)
    try:
        burdened = median_itl()
    finally:
        handle.remove()
    assert burdened > max(0.8 * cost, plain)
