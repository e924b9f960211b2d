"""Keys that have no effect with the others of their section."""

from __future__ import annotations

from harness.config.point import Cache, Quantization
from harness.config.rules import keys_without_effect

FOUR_BITS = {"bnb_4bit_compute_dtype", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant"}
EIGHT_BITS = {"llm_int8_threshold", "llm_int8_has_fp16_weight"}


def test_a_precision_uses_no_key_of_a_quantizer() -> None:
    plain = keys_without_effect(Quantization(name="fp32", dtype="float32"))
    assert plain == FOUR_BITS | EIGHT_BITS | {"llm_int8_skip_modules", "group_size"}
    nf4 = keys_without_effect(Quantization(name="nf4", load_in_4bit=True, bnb_4bit_quant_type="nf4"))
    assert nf4 == EIGHT_BITS | {"group_size"}


def test_a_cache_that_is_not_quantized_uses_none() -> None:
    assert keys_without_effect(Cache(name="default")) == Cache.model_fields.keys() - {"name", "backend"}
    assert keys_without_effect(Cache(name="hqq", backend="hqq", nbits=4)) == frozenset()
