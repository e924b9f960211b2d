"""Each quantization on this machine: memory, speed and KL divergence, on a Llama of 100M parameters."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from harness.cli.doctor import TRIED, TRIED_CACHES
from harness.config.point import Model, Quantization
from harness.errors import HarnessError
from harness.models.caches import cache_config, check_cache, quantized_cache_bytes
from harness.models.load import footprint_bytes, read_model
from harness.models.locate import locate
from harness.models.memory import kv_cache_bytes
from harness.models.quantize import check_quantization
from tests.benchmarks.shapes import llama_100m

TOKENS = 16
PROMPT = 64


def main() -> None:
    """Print a line per quantization and cache."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "llama"
        llama_100m().model.save_pretrained(folder)
        llama, fable = Model(name="llama", id=str(folder)), Model(name="fable_small", id="fable_small")
        print(f"\n100M Llama, batch 1, prompt of {PROMPT} tokens, {TOKENS} generated; KL on fable_small")
        fp32 = Quantization(name="fp32", dtype="float32")
        ids = _text(_loaded(fable, fp32))
        reference = _distribution(fable, fp32, ids)
        for quantization in TRIED:
            try:
                for model in (llama, fable):
                    check_quantization(quantization, "cpu", locate(model))
            except HarnessError as error:
                print(f"{quantization.name:26} {str(error)[:80]}")
                continue
            started = time.perf_counter()
            loaded = _loaded(llama, quantization)
            seconds = time.perf_counter() - started
            p = _distribution(fable, quantization, ids)
            kl = float((reference.exp() * (reference - p)).sum(-1).mean())
            weights = footprint_bytes(loaded) / 2**20
            text = f"{weights:6.0f} MiB, loaded in {seconds:4.1f} s, {_speed(loaded):6.1f} tokens/s"
            print(f"{quantization.name:26} {text}, KL {kl:.1e}", flush=True)
        loaded = _loaded(llama, fp32)
        files, length = locate(llama), PROMPT + TOKENS
        plain = kv_cache_bytes(files.text_config, length, 4) / 2**20
        print(f"{'cache=default':26} {plain:6.1f} MiB of cache, {_speed(loaded):6.1f} tokens/s")
        for cache in TRIED_CACHES:
            try:
                check_cache(cache, "cpu", files)
            except HarnessError as error:
                print(f"{cache.name:26} {str(error)[:80]}")
                continue
            settings = cache_config(
                cache.model_copy(update={"residual_length": 8 if cache.backend == "hqq" else None}), files
            )
            assert settings is not None
            size = quantized_cache_bytes(files.text_config, length, 4, settings) / 2**20
            more = {"cache_implementation": "quantized", "cache_config": settings}
            print(f"cache={cache.name:20} {size:6.1f} MiB of cache, {_speed(loaded, **more):6.1f} tokens/s")


def _loaded(model: Model, quantization: Quantization) -> Any:
    files = locate(model)
    dtype = "float32" if quantization.dtype == "checkpoint" else quantization.dtype
    loaded: Any = read_model(files.folder, model, quantization, "cpu", dtype, lambda what, fraction: None)
    loaded.generation_config = GenerationConfig()
    return loaded


def _text(loaded: Any) -> torch.Tensor:
    """Return (1, N) ids that the model sampled, from BOS on."""
    torch.manual_seed(0)
    config = GenerationConfig(max_new_tokens=200, do_sample=True, top_k=0, pad_token_id=0)
    return loaded.generate(torch.tensor([[loaded.config.bos_token_id]]), generation_config=config)


@torch.inference_mode()
def _distribution(model: Model, quantization: Quantization, ids: torch.Tensor) -> torch.Tensor:
    return _loaded(model, quantization)(ids).logits[0].double().log_softmax(-1)


def _speed(loaded: Any, **more: Any) -> float:
    """Return tokens per second after the first."""
    ids, took = torch.randint(3, 32_000, (1, PROMPT), generator=torch.Generator().manual_seed(1)), []
    for tokens in (1, 1, TOKENS + 1):  # the first one warms up
        config = GenerationConfig(max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0, **more)
        started = time.perf_counter()
        loaded.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        took.append(time.perf_counter() - started)
    return TOKENS / (took[2] - took[1])
