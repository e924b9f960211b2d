"""What a decoding strategy comes down to: every GenerationConfig field that matters, set explicitly.

A field that is left unset is filled by transformers from the model's own generation_config.json, then from
defaults that include `top_k=50`. So nothing is left unset: a null in the config is the neutral value here.
"""

from __future__ import annotations

from typing import Any

from harness.config.point import Decoding

# The value with which transformers adds no processor, for each field that a config can set.
NEUTRAL: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "top_h": None,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "length_penalty": 1.0,
    "early_stopping": False,
    "min_new_tokens": None,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "exponential_decay_length_penalty": None,
    "renormalize_logits": False,
    "remove_invalid_values": False,
}

# Fields that no config sets, but a model's own file might: kept neutral as well.
FIXED: dict[str, Any] = {
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "max_time": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "sequence_bias": None,
    "guidance_scale": None,
    "watermarking_config": None,
    "token_healing": False,
    "num_return_sequences": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "penalty_alpha": None,
    "dola_layers": None,
    "constraints": None,
    "force_words_ids": None,
    "prompt_lookup_num_tokens": None,
    "use_cache": True,
}


def effective_decoding(decoding: Decoding) -> dict[str, Any]:
    """The strategy with every relevant GenerationConfig field set; nulls are their neutral values.

    Budget and token ids (`max_new_tokens`, `eos_token_id`, ...) are not part of a strategy and not in here.
    """
    asked = decoding.model_dump(exclude={"name"}, exclude_none=True)
    return {**FIXED, **NEUTRAL, **{key: _listed(value) for key, value in asked.items()}}


def draws(decoding: Decoding) -> bool:
    """Whether luck has a part in it."""
    return bool(decoding.do_sample)


def is_beam(decoding: Decoding) -> bool:
    """Whether it keeps several hypotheses (with or without drawing)."""
    return (decoding.num_beams or 1) > 1


def _listed(value: Any) -> Any:
    """Tuples as lists, which is what transformers checks for."""
    return [_listed(item) for item in value] if isinstance(value, (tuple, list)) else value
