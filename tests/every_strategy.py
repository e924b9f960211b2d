"""Every choice of `decoding` that takes one token a step from one row, and some more."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from harness.cli.decoding_knobs import choices_of
from harness.config.effective import decoding_fields
from harness.config.groups import ConfigGroups
from harness.config.structure import STRUCTURES

DEFAULTS = ("llama_cpp_default", "ollama_default", "vllm_default", "webui_default")
MORE: dict[str, dict[str, Any]] = {
    "slope": {"repetition_penalty": 1.4, "rep_pen_slope": 0.5, "penalty_last_n": 6},
    "decay": {"repetition_penalty": 1.4, "penalty_sustain": 2, "penalty_decay": 5, "do_sample": True},
    "sequence_bias": {"sequence_bias": [[[5], 2.0], [[7, 9], -5.0]], "do_sample": True},
    "logit_bias": {"logit_bias": {11: 3.0}, "do_sample": True},
    "xtc last": {
        "do_sample": True,
        "min_p": 0.01,
        "xtc_probability": 0.5,
        "xtc_threshold": 0.02,
        "temperature": 1.5,
        "sampler_order": ["min_p", "xtc", "temperature"],
    },
    "greedy dry": {"dry_multiplier": 0.8, "dry_sequence_breakers": [" the"]},
    "p_less norm": {"do_sample": True, "p_less": "norm"},
    "reset": {"do_sample": True, "top_p": 0.9, "top_p_decay": 0.7, "top_p_reset_ids": [3, 9, 20]},
}


@cache
def choices() -> dict[str, dict[str, Any]]:
    """All choices but those of beams, and some more."""
    groups = ConfigGroups()
    found = choices_of(groups)
    for name in DEFAULTS:
        found[name] = dict(groups.own_values("decoding", name) or {})
    found = {name: {k: v for k, v in fields.items() if v is not None} for name, fields in found.items()}
    others = {
        "num_beams",
        "penalty_alpha",
        "cot_branches",
        "stochastic_beams",
        "processors",
        *decoding_fields("guidance"),
    }  # tested by themselves
    if find_spec("llguidance") is None:
        others |= set(STRUCTURES)
    return {name: fields for name, fields in found.items() if not fields.keys() & others} | MORE


def plain(value: Any) -> Any:
    return tuple(map(plain, value)) if isinstance(value, list) else value
