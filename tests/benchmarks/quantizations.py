"""What each quantization costs on this machine: memory, speed and distance, on a Llama of 100M parameters."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from harness.config.point import Model, Quantization
from harness.errors import HarnessError
from harness.models.caches import cache_config, check_cache, quantized_cache_bytes
from harness.models.doctor import TRIED, TRIED_CACHES
from harness.models.load import footprint_bytes, read_model
from harness.models.locate import locate
from harness.models.memory import kv_cache_bytes
from harness.models.quantize import check_quantization
from tests.benchmarks.shapes import llama_100m

TOKENS = 32
PROMPT = 200


def main() -> None:
    """Print a line a choice."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "llama"
        llama_100m().model.save_pretrained(folder)
        model = Model(name="llama", id=str(folder))
        ids = torch.randint(3, 32_000, (1, PROMPT), generator=torch.Generator().manual_seed(1))
        print(f"\n100M Llama, batch 1, {PROMPT} tokens read and {TOKENS} made; KL from fp32 in nats a token")
        reference = None
        for quantization in TRIED:
            try:
                check_quantization(quantization, "cpu", locate(model))
            except HarnessError as error:
                print(f"{quantization.name:26} {str(error)[:80]}")
                continue
            began = time.perf_counter()
            loaded = _loaded(folder, model, quantization)
            seconds = time.perf_counter() - began
            p = _distribution(loaded, ids)
            reference = p if reference is None else reference
            kl = float((reference.exp() * (reference - p)).sum(-1).mean())
            held = footprint_bytes(loaded) / 2**20
            told = f"{held:6.0f} MiB, loaded in {seconds:4.1f} s, {_speed(loaded, ids):6.1f} tokens/s"
            print(f"{quantization.name:26} {told}, KL {kl:.1e}")
        loaded = _loaded(folder, model, Quantization(name="fp32", dtype="float32"))
        files, length = locate(model), PROMPT + TOKENS
        plain = kv_cache_bytes(files.text_config, length, 4) / 2**20
        print(f"{'cache=default':26} {plain:6.1f} MiB of cache, {_speed(loaded, ids):6.1f} tokens/s")
        for cache in TRIED_CACHES:
            try:
                check_cache(cache, "cpu", files)
            except HarnessError as error:
                print(f"{cache.name:26} {str(error)[:80]}")
                continue
            asked = cache_config(cache, files)
            assert asked is not None
            held = quantized_cache_bytes(files.text_config, length, 4, asked) / 2**20
            more = {"cache_implementation": "quantized", "cache_config": asked}
            print(
                f"cache={cache.name:20} {held:6.1f} MiB of cache, {_speed(loaded, ids, **more):6.1f} tokens/s"
            )


def _loaded(folder: Path, model: Model, quantization: Quantization) -> Any:
    dtype = "float32" if quantization.dtype == "checkpoint" else quantization.dtype
    loaded: Any = read_model(folder, model, quantization, "cpu", dtype, lambda stage, part: None)
    loaded.generation_config = GenerationConfig()
    return loaded


@torch.inference_mode()
def _distribution(loaded: Any, ids: torch.Tensor) -> torch.Tensor:
    return loaded(ids).logits[0].double().log_softmax(-1)


def _speed(loaded: Any, ids: torch.Tensor, **more: Any) -> float:
    """Tokens a second after the first, the better of two runs."""
    mask, best = torch.ones_like(ids), 0.0
    for _ in range(2):
        took = []
        for tokens in (1, TOKENS + 1):
            config = GenerationConfig(max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0, **more)
            began = time.perf_counter()
            loaded.generate(ids, attention_mask=mask, generation_config=config)
            took.append(time.perf_counter() - began)
        best = max(best, TOKENS / (took[1] - took[0]))
    return best
