"""Rules across the fields of a decoding strategy, and the values with which another field acts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness.config.decoding import Decoding, SamplerName
from harness.config.decoding_field import DecodingField
from harness.config.effective import (
    acts,
    decoding_fields,
    draws,
    effective_decoding,
    is_beam,
    is_contrastive,
)
from harness.config.method_rules import GUIDANCE, deterministic_method, method_rules
from harness.config.no_effect import NoEffect, typed
from harness.config.processor_entries import entry_rules
from harness.config.sampler_order import ACTIVATED_BY, sampler_order
from harness.config.search_path import conf_folder
from harness.config.structure import STRUCTURES, problem_of, structure_of
from harness.config.watermark_kinds import MARKED_BY, watermarks_of
from harness.errors import ConfigError, Mistake

GOOD_VALUES: Mapping[str, Any] = {
    "guidance_scale": 1.5,
    "amateur": "fable_tiny",
    "dynatemp_range": 0.5,
    "edt_theta": 0.5,
    "smoothing_factor": 0.25,
    "top_p": 0.9,
    "top_p_decay": 0.9,
    "xtc_probability": 0.5,
    "mirostat_mode": 2,
    "adaptive_target": 0.5,
    "repetition_penalty": 1.1,
    "penalty_decay": 64,
    "dry_multiplier": 0.8,
    "kgw_bias": 2.0,
    "gumbel_key": 15485863,
}
"""A value to begin with, of the fields that others refine; the choice `synthid` has the keys of its own."""

ENDS: tuple[SamplerName, ...] = ("xtc", "mirostat", "adaptive_p", "skew")
"""Samplers of which one at most ends a chain: each is defined by the distribution that is drawn from."""

_BEAM_ONLY = "beam search has transformers' own processors only"

_NOT_WITH_BEAMS = ("encoder_repetition_penalty", "guidance_scale", "dola_layers")
"""Fields of transformers that it does not apply rightly to beams, or not where they are scored again."""

_OF_METHODS = ("stochastic_beams", "force_words", "generate")
"""Fields beside beams of which the rules of methods say what is wrong."""

_PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")


def decoding_rules(decoding: Decoding) -> Iterator[Mistake]:
    """Yield what is wrong with the fields of a strategy together."""
    unreadable = list(_of_structure(decoding))
    yield from unreadable
    if unreadable:
        decoding = decoding.model_copy(update=dict.fromkeys(STRUCTURES))
    effective = effective_decoding(decoding)
    if decoding.num_beams == 1 and decoding.name.startswith("beam"):
        cure = "temperature" if draws(decoding) else "greedy"
        yield Mistake("decoding.num_beams=1", f"one beam is no beam search; use decoding={cure}")
        return
    for key, field in decoding_fields().items():
        value = getattr(decoding, key)
        if value is None:
            continue
        text = typed(key, value)
        samples = field.kind in ("temperature", "truncation", "order")
        if is_beam(decoding) and key not in _OF_METHODS and _changes(effective, key, field):
            cure = "temperature" if samples or draws(decoding) or key == "gumbel_key" else "greedy"
            yield Mistake(text, f"{_BEAM_ONLY}; use decoding={cure}")
            continue
        if samples and not draws(decoding) and (method := deterministic_method(decoding)):
            if key != "top_k" or not is_contrastive(decoding):
                problem = f"no effect in {method}, which does not sample"
                yield NoEffect(text, f"{problem}; use decoding.{key}=null")
        elif samples and not draws(decoding) and not decoding.stochastic_beams:
            cure = f"add decoding.do_sample=true or use decoding={_sampling_choice(key)}"
            yield NoEffect(text, f"no effect without do_sample=true; {cure}")
        elif field.needs is not None and not acts(effective, field.needs):
            good = GOOD_VALUES.get(field.needs)
            cure = "use decoding=synthid" if good is None else f"add {typed(field.needs, good)}"
            yield NoEffect(text, f"no effect without {field.needs}; {cure}")
        elif key == "penalty_last_n" and not acts(effective, *_PENALTIES):
            yield NoEffect(text, "no effect without a penalty; add decoding.repetition_penalty=1.1")
        if field.kind == "beam" and not is_beam(decoding):
            cure = "add decoding.num_beams=5 or use decoding=beam"
            if key in ("num_beam_groups", "diversity_penalty"):
                beams = f" decoding.num_beams={2 * value}" if key == "num_beam_groups" else ""
                cure = f"use decoding=diverse_beam{beams}"
            if key.startswith("force_words"):
                cure = "use decoding=constrained_beam" if draws(decoding) else "add decoding.num_beams=6"
            if decoding.stochastic_beams or decoding.generate or deterministic_method(decoding):
                cure = f"use decoding.{key}=null"
            yield NoEffect(text, f"no effect without num_beams above 1; {cure}")
        if (field.kind in ("filter", "bias") or key == "force_words_ids") and _has_empty(value):
            yield Mistake(text, "contains an empty list; give token ids, or null")
        if key.endswith("last_n") and value == 0:
            yield Mistake(text, "must be -1 (all) or at least 1; to turn the penalties off leave them out")
    if "" in (decoding.dry_sequence_breakers or ()):
        text = typed("dry_sequence_breakers", decoding.dry_sequence_breakers)
        yield Mistake(text, "contains an empty string; remove it")
    guided = [name for name in GUIDANCE if acts(effective, name)]
    for name in guided[1:]:
        message = f"{guided[0]} guides the strategy too; use decoding.{name}=null"
        yield Mistake(typed(name, getattr(decoding, name)), message)
    if decoding.dola_layers == ():
        yield Mistake("decoding.dola_layers=[]", "contains no layer; give low, high, or a list as [0,2]")
    yield from method_rules(decoding, effective)
    yield from _of_watermarks(decoding, effective)
    yield from entry_rules(decoding.processors or ())
    yield from _of_samplers(decoding, effective)


def _of_structure(decoding: Decoding) -> Iterator[Mistake]:
    """Yield what is wrong with what the outputs must be."""
    given = [name for name in STRUCTURES if getattr(decoding, name) is not None]
    for name in given[1:]:
        message = f"{given[0]} says what the output must be too; use decoding.{name}=null"
        yield Mistake(typed(name, getattr(decoding, name)), message)
    for name in given:
        value = getattr(decoding, name)
        text = typed(name, value)
        if name == "choices" and (not value or "" in value):
            what = "an empty text; remove it" if value else "nothing; give at least one text"
            yield Mistake(text, f"contains {what}")
            continue
        try:
            structure = structure_of(effective_decoding(Decoding(name="alone", **{name: value})))
        except ConfigError as error:
            yield from error.mistakes
            continue
        assert structure is not None
        if problem := problem_of(structure):
            yield Mistake(text, problem)


def _of_watermarks(decoding: Decoding, effective: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what is wrong with watermarks; that beams have none is said of each field."""
    marks = [MARKED_BY[name] for name in watermarks_of(effective)]
    for name in marks[1:]:
        message = f"{marks[0]} marks the text too; use decoding.{name}=null"
        yield Mistake(typed(name, getattr(decoding, name)), message)
    if "gumbel_key" in marks and not draws(decoding) and not is_beam(decoding):
        if method := deterministic_method(decoding):
            cure = f"{method} does not sample; use decoding.gumbel_key=null"
        else:
            cure = "add decoding.do_sample=true or use decoding=gumbel_watermark"
        yield NoEffect(typed("gumbel_key", decoding.gumbel_key), f"no effect without do_sample=true; {cure}")
    width = decoding.kgw_context_width
    if width not in (None, 1) and "kgw_bias" in marks and decoding.kgw_seeding_scheme != "selfhash":
        cure = "add decoding.kgw_seeding_scheme=selfhash"
        text = typed("kgw_context_width", width)
        yield NoEffect(text, f"no effect with lefthash, which looks at the last token; {cure}")


def _of_samplers(decoding: Decoding, effective: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what is wrong with the samplers of a strategy together, and with their order."""
    if effective.get("dynatemp_range") and effective.get("edt_theta"):
        text = typed("edt_theta", decoding.edt_theta)
        yield Mistake(text, "dynatemp_range sets the temperature too; use one of them")
    given = decoding.sampler_order
    if given is not None:
        text = typed("sampler_order", given)
        if twice := [name for name, count in Counter(given).items() if count > 1]:
            yield Mistake(text, f"names {twice[0]} twice; name it once")
        used = sampler_order({**effective, "sampler_order": None, "temperature_last": False})
        if missing := [name for name in used if name not in given]:
            fields = " and ".join(ACTIVATED_BY[missing[0]][:1])
            yield Mistake(text, f"lacks {missing[0]}, which {fields} turns on; name it where it is to act")
        if decoding.temperature_last:
            text = "decoding.temperature_last=true"
            yield Mistake(text, "sampler_order says when temperature acts; use one of them")
    order = sampler_order(effective)
    ends = [name for name in order if name in ENDS]
    if len(ends) > 1:
        yield Mistake(f"decoding: {' and '.join(ends)}", "each must be the last sampler; use one of them")
    elif ends:
        after = order[order.index(ends[0]) + 1 :]
        allowed = ("temperature",) if ends == ["xtc"] else ()
        if wrong := [name for name in after if name not in allowed]:
            text = typed("sampler_order", given)
            what = "only temperature may come" if allowed else "nothing comes"
            yield Mistake(text, f"{what} after {ends[0]}; put {wrong[0]} before it")
        elif "temperature" in after and (effective.get("dynatemp_range") or effective.get("edt_theta")):
            text = typed("sampler_order", given)
            yield Mistake(text, "a temperature after xtc must be a fixed one; put temperature before it")


def _sampling_choice(key: str) -> str:
    """Return the choice that is named after a field of sampling and sets it; else plain sampling."""
    names = (key, key.removesuffix("_cutoff"), key.removesuffix("_p"))
    return next(
        (one for one in names if (conf_folder() / "decoding" / f"{one}.yaml").is_file()), "temperature"
    )


def _has_empty(value: Any) -> bool:
    """Return whether a list of ids, or one in it, is empty."""
    if not isinstance(value, (tuple, dict)):
        return False
    return not value or any(map(_has_empty, value))


def _changes(effective: Mapping[str, Any], key: str, field: DecodingField) -> bool:
    """Return whether a field changes what beams are chosen from, not as transformers' search does."""
    return key in effective if not field.stock else key in _NOT_WITH_BEAMS and acts(effective, key)
