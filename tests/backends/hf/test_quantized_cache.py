"""Decoding with a quantized cache: what is recorded equals a loop over a cache rounded in the test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from fp8_cache import needs_fp8_cache
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from harness.backends.backend import Request
from harness.backends.hf.forward import forward
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.stock_generate import stock_generate
from harness.decoding.detokenizer import Detokenizer


class Rounded(DynamicLayer):
    """Stores states as 8-bit floats; the scale maps the first states' largest value to 448."""

    def update(self, key_states: Any, value_states: Any, *args: Any, **more: Any) -> Any:
        if not self.is_initialized:
            self.scales = [states.abs().max() / 448 for states in (key_states, value_states)]
            super().update(key_states, value_states)
            self.keys, self.values = map(self.round, (self.keys, self.values), self.scales)
            return key_states, value_states
        return super().update(*map(self.round, (key_states, value_states), self.scales))

    @staticmethod
    def round(states: Any, scale: Any) -> Any:
        return (states / scale).to(torch.float8_e4m3fn).float() * scale


@needs_fp8_cache
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("fields", [{}, {"do_sample": True, "temperature": 1.5}])
def test_fp8_equals_rounding_in_the_test(
    loaded_model: Any, prompts_of: Any, strategy_of: Any, kind: str, fields: Any
) -> None:
    loaded = loaded_model(kind)
    strategy = replace(strategy_of(loaded, ends=False, **fields), cache={"backend": "fp8"})
    detokenizer, errors = Detokenizer(loaded.tokenizer), []
    for prompt in prompts_of(loaded)[:3]:
        (sample,) = stock_generate(loaded, [Request(prompt, 0, strategy)], detokenizer)
        cache, ids = DynamicCache(config=loaded.model.config), torch.tensor([prompt.ids])
        cache.layers = [Rounded() for _ in cache.layers]
        with torch.inference_mode():
            for position, token in enumerate(sample.token_ids):
                mask = torch.ones((1, len(prompt.ids) + position), dtype=torch.long)
                logits, cache = forward(loaded.model, ids, mask, cache)
                expected = float(logits[0, -1].double().log_softmax(-1)[token])
                assert float(sample.steps.logprob[position]) == pytest.approx(expected, abs=1e-4)
                ids = torch.tensor([[token]])
            ids = torch.tensor([[*prompt.ids, *sample.token_ids]])
            plain = loaded.model(ids).logits[0, len(prompt.ids) - 1 : -1].double().log_softmax(-1)
        chosen = plain.gather(1, torch.tensor(sample.token_ids)[:, None])[:, 0]
        errors.append(float((chosen - torch.from_numpy(sample.steps.logprob)).abs().max()))
    assert 1e-4 < max(errors) < 1, "the cache is quantized, and not broken"


@needs_fp8_cache
def test_it_is_timed_with_the_cache_it_decodes_with(
    loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.config.point import Timing

    loaded = loaded_model("llama")
    configs: list[Any] = []
    generate = loaded.model.generate

    def recorded(*args: Any, **more: Any) -> Any:
        configs.append(more["generation_config"])
        return generate(*args, **more)

    monkeypatch.setattr(loaded.model, "generate", recorded)
    strategy = replace(strategy_of(loaded), cache={"backend": "fp8"})
    timing = Timing(name="t", prompts=1, repeats=1, warmup=0, new_tokens=4)
    times = time_strategy(
        loaded, [Request(p, 0, strategy) for p in prompts_of(loaded)], timing, context_length=128
    )
    assert len(times) == 1
    assert [(config.cache_implementation, config.cache_config) for config in configs] == [
        ("quantized", {"backend": "fp8"})
    ]
