"""Rules across the fields of a strategy: what has no effect, what contradicts, and other tools' values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.config.decoding import Decoding
from harness.config.decoding_rules import ENDS, GOOD_VALUES
from harness.config.effective import decoding_fields, effective_decoding
from harness.config.sampler_order import ACTIVATED_BY, DEFAULT_ORDER, sampler_order

Mistakes = Callable[..., list[str]]
EXAMPLES: dict[str, Any] = {
    "penalty_decay": 8,
    "penalty_sustain": 2,
    "negative_prompt": "dull",
    "contrastive_beta": 0.5,
}


@pytest.mark.parametrize(
    "name", [name for name, field in decoding_fields().items() if field.needs is not None]
)
def test_a_field_that_refines_another_has_no_effect_alone(name: str, mistakes: Mistakes) -> None:
    field = decoding_fields()[name]
    value = field.neutral if field.neutral is not None else EXAMPLES.get(name, [3])
    (line,) = mistakes({"decoding.do_sample": True, f"decoding.{name}": value})
    assert f"no effect without {field.needs}" in line
    good = GOOD_VALUES.get(str(field.needs))
    cure = "use decoding=synthid" if field.needs == "synthid_keys" else f"add decoding.{field.needs}={good}"
    assert line.endswith(cure)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"top_n_sigma": 1.0}, "decoding.top_n_sigma=1.0: no effect without do_sample=true"),
        ({"sampler_order": ["top_p"]}, "no effect without do_sample=true"),
        (
            {"gumbel_key": 5},
            "decoding.gumbel_key=5: no effect without do_sample=true; add decoding.do_sample=true or use "
            "decoding=gumbel_watermark",
        ),
        (
            {"kgw_bias": 2.0, "gumbel_key": 5, "do_sample": True},
            "decoding.gumbel_key=5: kgw_bias marks the text too; use decoding.gumbel_key=null",
        ),
        (
            {"kgw_bias": 2.0, "kgw_context_width": 3},
            "looks at the last token; add decoding.kgw_seeding_scheme=selfhash",
        ),
        ({"synthid_keys": [5], "num_beams": 3}, "beam search has transformers' own processors only"),
        ({"penalty_last_n": 64}, "decoding.penalty_last_n=64: no effect without a penalty"),
        ({"repetition_penalty": 1.1, "penalty_last_n": 0}, "must be -1 (all) or at least 1"),
        ({"dry_multiplier": 0.8, "dry_sequence_breakers": ["\n", ""]}, "contains an empty string"),
        (
            {"dry_multiplier": 0.8, "num_beams": 3},
            "decoding.dry_multiplier=0.8: beam search has transformers'",
        ),
        (
            {"penalty_alpha": 0.6, "top_k": 4, "do_sample": True},
            "decoding.penalty_alpha=0.6: contrastive search does not sample; use decoding=contrastive_search",
        ),
        ({"penalty_alpha": 0.6, "num_beams": 3}, "contrastive search follows one sequence, no beams"),
        ({"penalty_alpha": 0.6}, "no effect without top_k above 1; add decoding.top_k=4"),
        ({"penalty_alpha": 0.6, "top_k": 1}, "no effect without top_k above 1; add decoding.top_k=4"),
        (
            {"penalty_alpha": 0.6, "top_k": 4, "top_p": 0.9},
            "decoding.top_p=0.9: no effect in contrastive search, which does not sample; use ",
        ),
        (
            {"penalty_alpha": 0.6, "top_k": 4, "guidance_scale": 2.0},
            "decoding.guidance_scale=2.0: contrastive search compares the model's own distribution",
        ),
        ({"penalty_alpha": 1.5, "top_k": 4}, "decoding.penalty_alpha=1.5: must be at most 1"),
        (
            {"num_beam_groups": 4},
            "decoding.num_beam_groups=4: no effect without num_beams above 1; use decoding=diverse_beam "
            "decoding.num_beams=8",
        ),
        ({"diversity_penalty": 0.5}, "no effect without num_beams above 1; use decoding=diverse_beam"),
        (
            {"num_beams": 6, "diversity_penalty": 0.5},
            "no effect without num_beam_groups above 1; add decoding.num_beam_groups=2",
        ),
        (
            {"num_beams": 6, "num_beam_groups": 3},
            "no effect without diversity_penalty; add decoding.diversity_penalty=1.0",
        ),
        (
            {"num_beams": 6, "num_beam_groups": 4, "diversity_penalty": 1.0},
            "must divide decoding.num_beams=6; use decoding.num_beam_groups=3",
        ),
        (
            {"num_beams": 5, "num_beam_groups": 2, "diversity_penalty": 1.0},
            "must divide decoding.num_beams=5; use decoding.num_beam_groups=5",
        ),
        (
            {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 1.0, "do_sample": True},
            "diverse beam search does not sample; use decoding.do_sample=false",
        ),
        ({"num_beams": 4, "force_words": []}, "decoding.force_words=[]: names no word; give one, or use"),
        ({"num_beams": 4, "force_words": ["fox", " "]}, "contains an empty word; remove it"),
        (
            {"num_beams": 4, "force_words_ids": [[3, 4], [5], [3, 4]]},
            "names (3, 4) twice, which is no more than once; use 'decoding.force_words_ids=[[3, 4], [5]]'",
        ),
        ({"num_beams": 4, "force_words_ids": [[[3], []]]}, "contains an empty list; give token ids, or null"),
        ({"force_words": ["fox"]}, "no effect without num_beams above 1; add decoding.num_beams=6"),
        (
            {"num_beams": 4, "force_words": ["fox"], "do_sample": True},
            "constrained beam search does not sample; use decoding=constrained_beam decoding.do_sample=false",
        ),
        (
            {"num_beams": 4, "force_words": ["a"], "num_beam_groups": 2, "diversity_penalty": 1.0},
            "decoding.num_beam_groups=2: constrained beam search has no groups",
        ),
        ({"stochastic_beams": True}, "no effect without do_sample=true; add decoding.do_sample=true"),
        (
            {"stochastic_beams": True, "do_sample": True, "num_beams": 3},
            "decoding.num_beams=3: not with stochastic_beams: it has a beam for each sample",
        ),
        (
            {"stochastic_beams": True, "do_sample": True, "cot_branches": 3},
            "not with stochastic_beams: it is a search of its own; use decoding.cot_branches=null",
        ),
        (
            {"stochastic_beams": True, "do_sample": True, "adaptive_target": 0.3},
            "not with stochastic_beams: it follows the draws of one text",
        ),
        (
            {"stochastic_beams": True, "do_sample": True, "dola_layers": "low"},
            "stochastic beam search reads the model's own distribution; use decoding.dola_layers=null",
        ),
        ({"generate": "mine.py"}, "decoding.generate=mine.py: must be FILE.py:FUNCTION or package.module:F"),
        ({"generate": {"depth": 3}}, "decoding.generate: has no path; a mapping is {path: FILE.py:FUNCTION"),
        ({"generate": {"path": "a.py:f", "x-y": 3}}, "'x-y' is no name of an argument; a.py:f has none"),
        (
            {"generate": "a.py:f", "processors": ["a.py:g"]},
            "decoding.generate chooses the tokens by itself; use decoding.processors=null",
        ),
        (
            {"generate": "a.py:f", "num_beams": 4},
            "decoding.num_beams=4: decoding.generate chooses the tokens by itself; use decoding=greedy ",
        ),
        ({"logit_bias": {}}, "decoding.logit_bias={}: contains an empty list"),
        ({"sequence_bias": [[[], 1.0]]}, "contains an empty list"),
        (
            {"do_sample": True, "dynatemp_range": 0.5, "edt_theta": 1.0},
            "dynatemp_range sets the temperature too",
        ),
        ({"do_sample": True, "xtc_probability": 0.5, "skew": 0.3}, "each must be the last sampler"),
        ({"do_sample": True, "mirostat_mode": 2, "adaptive_target": 0.3}, "each must be the last sampler"),
        (
            {"do_sample": True, "top_p": 0.9, "xtc_probability": 0.5, "sampler_order": ["xtc", "top_p"]},
            "only temperature may come after xtc; put top_p before it",
        ),
        (
            {"do_sample": True, "top_p": 0.9, "skew": 0.5, "sampler_order": ["skew", "top_p"]},
            "nothing comes after skew; put top_p before it",
        ),
        (
            {
                "do_sample": True,
                "dynatemp_range": 0.5,
                "xtc_probability": 0.5,
                "sampler_order": ["xtc", "temperature"],
            },
            "a temperature after xtc must be a fixed one",
        ),
        ({"do_sample": True, "top_p": 0.9, "sampler_order": ["top_k"]}, "lacks top_p, which top_p turns on"),
        ({"do_sample": True, "top_p": 0.9, "sampler_order": ["top_p", "top_p"]}, "names top_p twice"),
        (
            {"do_sample": True, "top_p": 0.9, "sampler_order": ["top_p"], "temperature_last": True},
            "sampler_order says when temperature acts",
        ),
        (
            {"do_sample": True, "sampler_order": ["nucleus"]},
            'decoding.sampler_order=["nucleus"]: must be a list',
        ),
        ({"do_sample": True, "top_k": 0}, "must be at least 1; to turn it off use decoding.top_k=null"),
        ({"do_sample": True, "top_k": -1}, "to turn it off use decoding.top_k=null"),
        ({"do_sample": True, "temperature": 0}, "without sampling use decoding=greedy"),
        (
            {"do_sample": True, "eta_cutoff": 3},
            "of text-generation-webui's 1e-4, use decoding.eta_cutoff=0.0003",
        ),
        ({"do_sample": True, "top_n_sigma": -1}, "to turn it off use decoding.top_n_sigma=null"),
        ({"do_sample": True, "adaptive_target": -1}, "to turn it off use decoding.adaptive_target=null"),
        ({"do_sample": True, "xtc_probability": 0.5, "xtc_threshold": 0.6}, "must be at most 0.5"),
        ({"do_sample": True, "smoothing_factor": 0.2, "smoothing_curve": 4}, "must be at most 3"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_contradictions_are_one_line(fields: dict[str, Any], line: str, mistakes: Mistakes) -> None:
    found = mistakes({f"decoding.{name}": value for name, value in fields.items()})
    assert len(found) == 1, found
    assert line in found[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"do_sample": True, "top_n_sigma": 1.0, "temperature": 2.0, "temperature_last": True},
        {"do_sample": True, "min_p": 0.1, "sampler_order": list(DEFAULT_ORDER)},
        {"repetition_penalty": 1.1, "penalty_last_n": -1, "rep_pen_slope": 0.5},
        {"sequence_bias": [[[3, 4], -1.0]], "num_beams": 2},
        {"logit_bias": {"3": 1.5}},
        {"penalty_alpha": 0.6, "top_k": 4, "do_sample": False, "repetition_penalty": 1.2},
        {"penalty_alpha": 0, "top_k": 4},
        {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5, "repetition_penalty": 1.2},
        {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0},
        {"num_beams": 6, "num_beam_groups": 1, "diversity_penalty": 0.5},
        {
            "do_sample": True,
            "xtc_probability": 0.5,
            "temperature": 0.9,
            "sampler_order": ["xtc", "temperature"],
        },
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_what_belongs_together_is_right(fields: dict[str, Any], mistakes: Mistakes) -> None:
    assert mistakes({f"decoding.{name}": value for name, value in fields.items()}) == []


def test_every_sampler_has_a_place_and_a_field() -> None:
    assert set(ACTIVATED_BY) == set(DEFAULT_ORDER)
    fields = decoding_fields("temperature", "truncation")
    activating = {name for names in ACTIVATED_BY.values() for name in names}
    assert activating == {name for name, field in fields.items() if field.needs is None}
    assert set(ENDS) <= set(DEFAULT_ORDER)


def test_the_order_is_transformers_or_as_given() -> None:
    fields: dict[str, Any] = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "xtc_probability": 0.5}

    def order(**more: Any) -> tuple[str, ...]:
        return sampler_order(effective_decoding(Decoding(name="x", **fields, **more)))

    assert order() == ("temperature", "top_p", "xtc")
    assert order(temperature_last=True) == ("top_p", "temperature", "xtc")
    given = ("top_p", "xtc", "temperature")
    assert order(sampler_order=given) == given


def test_only_what_acts_is_effective() -> None:
    """So that a field that is new leaves the addresses of stored points as they are."""
    stock = {name for name, field in decoding_fields().items() if field.stock}
    plain = effective_decoding(Decoding(name="x"))
    assert set(decoding_fields()) & set(plain) == stock
    dry = effective_decoding(Decoding(name="x", dry_multiplier=0.8))
    assert {name: dry[name] for name in dry if name.startswith("dry_")} == {
        "dry_multiplier": 0.8,
        "dry_base": 1.75,
        "dry_allowed_length": 2,
        "dry_penalty_last_n": -1,
        "dry_sequence_breakers": ["\n", ":", '"', "*"],
    }
    assert effective_decoding(Decoding(name="x", dry_multiplier=0.0, dry_base=2.0)) == plain
    decayed = effective_decoding(Decoding(name="x", top_p=0.9, top_p_decay=0.9))
    assert (decayed["top_p_decay"], decayed["top_p_min"]) == (0.9, 1e-6)
