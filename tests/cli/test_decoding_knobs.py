"""The parameters of the token walk's page: what they are and accept, and the overrides that give them."""

from __future__ import annotations

from typing import Any

import pytest

from harness.cli.decoding_knobs import choices_of, greedy, knob_texts, knobs, overrides_of, turned
from harness.config import hydra_app
from harness.config.decoding import Decoding
from harness.config.decoding_rules import GOOD_VALUES
from harness.config.effective import decoding_fields, effective_decoding
from harness.config.groups import ConfigGroups
from harness.errors import ConfigError

GREEDY = Decoding(name="greedy", do_sample=False)


def test_every_field_that_shapes_a_distribution_is_a_knob() -> None:
    fields = decoding_fields("temperature", "truncation", "penalty")
    no_numbers = {"top_p_reset_ids", "p_less", "mirostat_mode", "dry_sequence_breakers"}
    no_numbers |= {name for name in fields if Decoding.model_fields[name].annotation == bool | None}
    assert [knob.name for knob in knobs()] == [name for name in fields if name not in no_numbers]
    by_name = {knob.name: knob for knob in knobs()}
    assert {"temperature", "top_k", "top_p", "top_h", "repetition_penalty"} <= set(by_name)
    top_p, cutoff, top_k = by_name["top_p"], by_name["eta_cutoff"], by_name["top_k"]
    assert (top_p.low, top_p.high, top_p.open_low, top_p.open_high) == (0, 1, True, False)
    assert (cutoff.low, cutoff.high, cutoff.open_low, cutoff.open_high) == (0, 1, False, True)
    assert (top_k.whole, top_k.low, top_k.neutral) == (True, 1, 0)
    assert (by_name["temperature"].high, by_name["temperature"].open_low) == (None, True)


@pytest.mark.thinned(4)
@pytest.mark.parametrize("knob", [knob.name for knob in knobs()])
def test_the_ends_of_a_range_are_what_the_config_accepts(knob: str) -> None:
    """A closed end is accepted and what is beyond it is not; an open end is not."""
    found = next(one for one in knobs() if one.name == knob)
    base, needed, field = GREEDY, {}, decoding_fields()[knob]
    while field.needs is not None:
        good = GOOD_VALUES[field.needs]
        if field.needs == "mirostat_mode":
            base = Decoding(name="mirostat", do_sample=True, mirostat_mode=2)
        else:
            needed[field.needs] = str(good)
        field = decoding_fields()[field.needs]
    if knob == "penalty_last_n":
        needed = {"repetition_penalty": "1.1"}

    def accepts(value: float) -> bool:
        try:
            turned(base, {**needed, knob: str(value)})
        except ConfigError:
            return False
        return True

    if not knob.endswith("last_n"):  # which takes -1 and what is above 0
        assert accepts(found.low) is not found.open_low
    assert not accepts(found.low - 1)
    if found.high is not None:
        assert accepts(found.high) is not found.open_high
        assert not accepts(found.high + 1)


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        ({"top_p": "1.5"}, "decoding.top_p=1.5: must be at most 1"),
        ({"top_p": "hot"}, "decoding.top_p=hot: must be a number above 0 and at most 1"),
        ({"top_p": "true"}, "decoding.top_p=true: must be a number above 0 and at most 1"),
        ({"top_k": "2.5"}, "decoding.top_k=2.5: must be a whole number from 1"),
        (
            {"temperature": "0"},
            "decoding.temperature=0: must be above 0; without sampling use decoding=greedy",
        ),
        ({"temperature": "nan"}, "decoding.temperature=NaN: must be a finite number"),
        ({"top_q": "1"}, "decoding.top_q: no such key; did you mean decoding.top_p?"),
        ({"num_beams": "2"}, "decoding.num_beams: no such key"),
        ({"__class__": "1"}, "decoding.__class__: no such key"),
    ],
)
def test_a_bad_value_is_one_line(texts: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigError) as raised:
        turned(GREEDY, texts)
    (mistake,) = raised.value.mistakes
    assert str(mistake).startswith(line)


def test_the_line_is_the_command_s() -> None:
    with pytest.raises(ConfigError) as on_the_page:
        turned(GREEDY, {"min_p": "-0.1"})
    with pytest.raises(ConfigError) as typed:
        hydra_app.one_point(["decoding=min_p", "decoding.min_p=-0.1"])
    assert str(on_the_page.value) == str(typed.value)


def test_what_is_no_knob_stays_as_the_command_has_it() -> None:
    base = Decoding(name="mine", do_sample=False, suppress_tokens=(3,), repetition_penalty=1.3)
    found = turned(base, {})
    assert found.suppress_tokens == (3,)
    assert found.repetition_penalty is None
    assert not found.do_sample
    assert turned(base, knob_texts(base)) == base


def test_greedy_leaves_the_penalties() -> None:
    found = greedy(turned(GREEDY, {"temperature": "0.5", "top_k": "3", "repetition_penalty": "1.2"}))
    assert found == Decoding(name="greedy", do_sample=False, repetition_penalty=1.2)


@pytest.mark.parametrize(
    ("texts", "fewest"),
    [
        ({}, ["decoding=greedy"]),
        ({"temperature": "1"}, ["decoding=temperature", "decoding.temperature=1.0"]),
        ({"top_p": "0.9"}, ["decoding=top_p"]),
        ({"top_k": "12"}, ["decoding=top_k", "decoding.top_k=12"]),
        ({"epsilon_cutoff": "1e-7"}, ["decoding=epsilon", "decoding.epsilon_cutoff=1e-07"]),
        ({"no_repeat_ngram_size": "2", "repetition_penalty": "1.2"}, None),
        ({"temperature": "0.7", "top_p": "0.9", "min_p": "0.02", "top_h": "0.5"}, None),
        ({"top_p": "1", "typical_p": "1"}, None),
    ],
)
def test_overrides_compose_the_same_strategy(texts: dict[str, str], fewest: list[str] | None) -> None:
    decoding = turned(GREEDY, texts)
    overrides = overrides_of(decoding, choices_of(ConfigGroups()))
    composed = hydra_app.one_point(["model=fable_tiny", *overrides]).decoding
    assert effective_decoding(composed) == effective_decoding(decoding)
    if fewest is not None:
        assert overrides == fewest


def test_overrides_of_a_strategy_with_lists() -> None:
    base = Decoding(name="greedy", do_sample=False, bad_words_ids=((1, 2), (3,)), min_new_tokens=2)
    overrides = overrides_of(turned(base, {"top_p": "0.5"}), choices_of(ConfigGroups()))
    composed = hydra_app.one_point(["model=fable_tiny", *overrides]).decoding
    assert (composed.bad_words_ids, composed.min_new_tokens, composed.top_p) == (((1, 2), (3,)), 2, 0.5)


def test_overrides_of_processors_of_ones_own() -> None:
    """Hydra's mappings have no quotes around their keys, and its texts no escape but that of a quote."""
    entry = {"path": "~/x y/b.py:C", "place": "after", "text": 'a, "b" \n: c', "yes": "true", "n": [1, None]}
    base = Decoding(name="greedy", do_sample=False, processors=("a.py:B", entry), logit_bias={11: 3.0})
    overrides = overrides_of(base, choices_of(ConfigGroups()))
    assert overrides[0] == "decoding=greedy"
    composed = hydra_app.one_point(["model=fable_tiny", *overrides]).decoding
    assert effective_decoding(composed) == effective_decoding(base)


@pytest.mark.parametrize(
    "fields",
    [
        {"json_schema": {"type": "object", "properties": {"a": {"enum": ["x y", "it's"]}}}},
        {"regex": 'a{2},[bc]\'\\d "q" [${]x'},
        {"regex": "[abc]"},
        {"choices": (" yes", 'it\'s, "no"', "a\\b")},
        {"grammar": 'start: "a"\n'},
    ],
)
def test_overrides_of_structured_outputs(fields: dict[str, Any]) -> None:
    pytest.importorskip("llguidance")
    decoding = Decoding(name="greedy", do_sample=False, **fields)
    overrides = overrides_of(decoding, choices_of(ConfigGroups()))
    composed = hydra_app.one_point(["model=fable_tiny", *overrides]).decoding
    assert effective_decoding(composed) == effective_decoding(decoding)
