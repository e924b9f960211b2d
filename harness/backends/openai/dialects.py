"""The dialects: what each server takes, found out on running ones or in their source (docs/servers.md)."""

from __future__ import annotations

from collections.abc import Mapping

from harness.backends.openai.dialect import Dialect
from harness.config.point import DialectName

_OPENAI = {
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_OPENAI_NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}

OPENAI = Dialect(
    name="openai",
    fields=_OPENAI,
    special=("logit_bias",),
    neutral=_OPENAI_NEUTRAL,
    most_stops=4,
    lists_models=False,
    seeds="best effort",
)

OPENROUTER = Dialect(
    name="openrouter",
    fields={
        **_OPENAI,
        "top_k": "top_k",
        "min_p": "min_p",
        "top_a": "top_a",
        "repetition_penalty": "repetition_penalty",
    },
    special=("logit_bias",),
    neutral={**_OPENAI_NEUTRAL, "top_k": 0, "min_p": 0.0, "top_a": 0.0, "repetition_penalty": 1.0},
    # A provider gets what it knows, and ignores the rest, unless it must know all; a prompt that is too long
    # is compressed, unless that is switched off.
    always={"provider": {"require_parameters": True}, "transforms": []},
    most_stops=4,
    seeds="best effort, by provider",
    priced=True,
    notes=(
        "openrouter: a model's providers differ in engine and precision; name one, as in "
        "'backend.extra_body={provider: {only: [deepinfra]}}'",
    ),
)

VLLM_SERVER = Dialect(
    name="vllm_server",
    fields={
        **_OPENAI,
        "top_k": "top_k",
        "min_p": "min_p",
        "repetition_penalty": "repetition_penalty",
        "min_new_tokens": "min_tokens",
    },
    special=("logit_bias",),
    neutral={
        **_OPENAI_NEUTRAL,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "length_penalty": 1.0,
        "min_tokens": 0,
        "ignore_eos": False,
    },
    always={"include_stop_str_in_output": True, "return_token_ids": True},
    ignore_eos={"ignore_eos": True},
    timed={"ignore_eos": True},
    logprobs="raw",
    keeps_stops=True,
)

LLAMA_CPP = Dialect(
    name="llama_cpp",
    fields={
        "temperature": "temperature",
        "dynatemp_range": "dynatemp_range",
        "dynatemp_exponent": "dynatemp_exponent",
        "top_k": "top_k",
        "top_p": "top_p",
        "min_p": "min_p",
        "typical_p": "typical_p",
        "top_n_sigma": "top_n_sigma",
        "xtc_probability": "xtc_probability",
        "xtc_threshold": "xtc_threshold",
        "mirostat_mode": "mirostat",
        "mirostat_tau": "mirostat_tau",
        "mirostat_eta": "mirostat_eta",
        "repetition_penalty": "repeat_penalty",
        "presence_penalty": "presence_penalty",
        "frequency_penalty": "frequency_penalty",
        "dry_multiplier": "dry_multiplier",
        "dry_base": "dry_base",
        "dry_allowed_length": "dry_allowed_length",
        "dry_sequence_breakers": "dry_sequence_breakers",
    },
    special=(
        "penalty_last_n",
        "dry_penalty_last_n",
        "logit_bias",
        "suppress_tokens",
        "sampler_order",
        "temperature_last",
    ),
    neutral={
        "temperature": 1.0,
        "dynatemp_range": 0.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "top_n_sigma": -1.0,
        "xtc_probability": 0.0,
        "mirostat": 0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "dry_multiplier": 0.0,
        "ignore_eos": False,
    },
    # A cached prefix changes logits in their last bits, and the time to first token by much.
    always={"cache_prompt": False, "min_keep": 0},
    ignore_eos={"ignore_eos": True},
    timed={"ignore_eos": True},
    alternatives=None,
    logprobs="raw",
    fixed_order=False,
)

TEXT_GENERATION_WEBUI = Dialect(
    name="text_generation_webui",
    fields={
        name: name
        for name in (
            "temperature", "top_k", "top_p", "min_p", "typical_p", "tfs", "top_a", "top_n_sigma",
            "smoothing_factor", "smoothing_curve", "xtc_probability", "xtc_threshold", "mirostat_mode",
            "mirostat_tau", "mirostat_eta", "repetition_penalty", "presence_penalty", "frequency_penalty",
            "encoder_repetition_penalty", "no_repeat_ngram_size", "dry_multiplier", "dry_base",
            "dry_allowed_length", "temperature_last",
        )
    },
    special=("epsilon_cutoff", "eta_cutoff", "penalty_last_n", "dry_sequence_breakers"),
    neutral={
        "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "tfs": 1.0,
        "top_a": 0.0, "top_n_sigma": 0.0, "smoothing_factor": 0.0, "smoothing_curve": 1.0,
        "xtc_probability": 0.0, "mirostat_mode": 0, "repetition_penalty": 1.0,
        "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "dry_multiplier": 0.0,
        "temperature_last": False, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "repetition_penalty_range": 0,
        "dynamic_temperature": False, "penalty_alpha": 0.0, "guidance_scale": 1.0, "adaptive_target": 0.0,
        "ban_eos_token": False,
    },
    always={"add_bos_token": True, "skip_special_tokens": True},
    timed={"ban_eos_token": True},
    lists_models=False,
    fixed_order=False,
    notes=(
        "text_generation_webui: which samplers act, and on what its logprobs are, depends on its loader; "
        "`harness doctor` with the same keys tries them",
    ),
)  # fmt: skip

OLLAMA = Dialect(
    name="ollama",
    fields=_OPENAI,
    special=("top_k",),
    neutral=_OPENAI_NEUTRAL,
    forced={"top_k": 40},
    notes=("ollama: what the model's Modelfile sets (repeat_penalty, min_p) acts in addition",),
)

TRANSFORMERS_SERVE = Dialect(
    name="transformers_serve",
    fields={},
    special=(
        "temperature", "top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff",
        "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "sequence_bias",
        "min_new_tokens", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens",
        "exponential_decay_length_penalty", "renormalize_logits", "remove_invalid_values",
    ),
    alternatives=0,
    streams_usage=False,
    seeds="of its whole process: right with backend.concurrency=1 alone",
    lists_models=False,
    notes=("transformers_serve returns no logprobs: probabilities stay empty",),
)  # fmt: skip

LM_STUDIO = Dialect(
    name="lm_studio",
    fields={**_OPENAI, "top_k": "top_k", "repetition_penalty": "repeat_penalty"},
    special=("logit_bias",),
    neutral={**_OPENAI_NEUTRAL, "top_k": 0, "repeat_penalty": 1.0},
    notes=("lm_studio was not tried here; `harness doctor` with the same keys tries it",),
)

DIALECTS: Mapping[DialectName, Dialect] = {
    dialect.name: dialect
    for dialect in (
        OPENAI, OPENROUTER, VLLM_SERVER, LLAMA_CPP, TEXT_GENERATION_WEBUI, OLLAMA, TRANSFORMERS_SERVE,
        LM_STUDIO,
    )
}  # fmt: skip
"""By `backend.dialect`."""
