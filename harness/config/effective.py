"""The effective decoding: every GenerationConfig field that shapes the output, set explicitly.

A field that is left unset is filled by transformers from the model's own generation_config.json, then from
defaults that include `top_k=50`. So nothing is left unset: a null in the config becomes the neutral value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.config.decoding import Decoding
from harness.config.decoding_field import DecodingField, FieldKind
from harness.config.structure import structure_value

FIXED: dict[str, Any] = {
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "max_time": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "watermarking_config": None,
    "token_healing": False,
    "num_return_sequences": 1,
    "constraints": None,
    "prompt_lookup_num_tokens": None,
    "use_cache": True,
}
"""Fields that no config can set, but a model's own file might: the values they are kept at."""


def decoding_fields(*kinds: FieldKind) -> dict[str, DecodingField]:
    """Return what is known of the fields of `Decoding`, by name in their order.

    Args:
        kinds: only fields of these kinds; every field when none is given.
    """
    found = {}
    for name, info in Decoding.model_fields.items():
        for fact in info.metadata:
            if isinstance(fact, DecodingField) and (not kinds or fact.kind in kinds):
                found[name] = fact
    return found


NEUTRAL: dict[str, Any] = {name: field.neutral for name, field in decoding_fields().items()}
"""The value that changes nothing, for each field that a config can set."""


def acts(effective: Mapping[str, Any], *names: str) -> bool:
    """Return whether one of these fields of an effective decoding has another value than its neutral one."""
    return any(_as_list(effective.get(name, NEUTRAL[name])) != _as_list(NEUTRAL[name]) for name in names)


def effective_decoding(decoding: Decoding) -> dict[str, Any]:
    """Return the strategy with every relevant GenerationConfig field set; nulls become neutral values.

    A field that GenerationConfig does not have is there where it changes something, or refines one that does:
    no file of a model can set it, and a new one leaves the addresses of stored points as they are.
    The budget and token ids (`max_new_tokens`, `eos_token_id`, ...) do not belong to a strategy and are not
    included. Files that say what an output must be are read.

    Raises:
        ConfigError: such a file cannot be read.
    """
    requested = decoding.model_dump(exclude={"name"}, exclude_none=True)
    requested = {name: structure_value(name, value) for name, value in requested.items()}
    found = {**NEUTRAL, **{key: _as_list(value) for key, value in requested.items()}}
    if found["guidance_scale"] == 1.0:  # as transformers has it; its neutral value is null
        found["guidance_scale"] = None
    fields = decoding_fields()

    def counts(name: str) -> bool:
        needs = fields[name].needs
        if needs is None:
            return acts(found, name)
        return counts(needs) and (acts(found, name) or not fields[needs].stock)

    kept = {name: _as_list(value) for name, value in found.items() if fields[name].stock or counts(name)}
    return {**FIXED, **kept}


def draws(decoding: Decoding) -> bool:
    """Return whether tokens are sampled, with noise that depends on the seed."""
    return bool(decoding.do_sample)


def searches(effective: Mapping[str, Any]) -> bool:
    """Return whether an effective decoding has a loop that chooses by more than the tokens of one step."""
    return effective["num_beams"] > 1 or acts(effective, "penalty_alpha", "stochastic_beams", "generate")


def is_contrastive(decoding: Decoding) -> bool:
    """Return whether it is contrastive search."""
    return decoding.penalty_alpha is not None


def has_groups(effective: Mapping[str, Any]) -> bool:
    """Return whether an effective decoding is diverse beam search."""
    return effective["num_beams"] > 1 and acts(effective, "num_beam_groups")


def most_samples(decoding: Decoding) -> int | None:
    """Return how many outputs a prompt can have that differ: a strategy that draws has no limit, None."""
    if draws(decoding):
        return None
    beams, groups = decoding.num_beams or 1, decoding.num_beam_groups or 1
    if beams > 1 or is_contrastive(decoding):
        return beams if groups > 1 else 1
    return decoding.cot_branches or 1


def is_beam(decoding: Decoding) -> bool:
    """Return whether it is beam search, with or without sampling."""
    return (decoding.num_beams or 1) > 1


def _as_list(value: Any) -> Any:
    """Tuples become lists, the type that transformers checks for."""
    return [_as_list(item) for item in value] if isinstance(value, (tuple, list)) else value
