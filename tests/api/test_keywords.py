"""Keyword arguments become the overrides that mean the same, and strings arrive as they are."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from harness.api.keywords import overrides_of
from harness.config.arguments import Arguments
from harness.config.hydra_app import compose, one_point
from harness.config.overrides import parse_override
from harness.errors import ConfigError

NASTY = [
    "a, b", "{x: 1}", 'say "hi"', "it's", "[a]", "(1,2)", "${oc.env:HOME}", "\\${x}", "\\\\${x}", "$x", "${",
    "a=b", "back\\slash", "\\", 'q\\"', 'x\\\\"', "", " lead ", "null", "True", "1e5", "0x1",
    "line\nend", "tab\t",
    "😀", "???", "'", '"', "a:b", "#c", "~x", "--flag", "a;b&c|d", "%(x)s", "\u202e", "@here",
]  # fmt: skip


def overrides(*given, **keys):
    return overrides_of(given[0] if given else (), keys, lambda key, function: f"x.py:{function.__name__}")


def points(words):
    return compose(Arguments(flags=["-m"], overrides=words)).points


def test_strings_arrive_as_they_are_in_a_sweep_and_in_a_point():
    keys = {"prompts.items": NASTY, "generation.stop_strings": [text + "!" for text in NASTY]}
    words = overrides(model="fable_tiny", **keys)
    for point in (points(words)[0], one_point(words)):
        assert point.prompts.items == tuple(NASTY)
        assert point.generation.stop_strings == tuple(text + "!" for text in NASTY)
    swept = points(overrides(**{"prompts.chat": True, "prompts.system": NASTY}))
    assert [point.prompts.system for point in swept] == NASTY


@given(st.text())
def test_any_text_survives_the_grammar(text):
    (word,) = overrides(**{"prompts.system": text})
    value = parse_override(word).value()
    assert OmegaConf.create({"text": value})["text"] == text


def test_a_list_is_what_commas_are():
    assert overrides(decoding=["greedy", "top_p"]) == ["decoding=greedy,top_p"]
    assert overrides(generation={"seed": range(2), "samples": 3}) == [
        "generation.seed=0,1",
        "generation.samples=3",
    ]
    assert overrides(decoding={"name": "top_p", "top_p": (0.5, 0.9)}) == [
        "decoding=top_p",
        "decoding.top_p=0.5,0.9",
    ]
    assert overrides({"decoding": "greedy"}, model="gpt2") == ["decoding=greedy", "model=gpt2"]
    assert overrides("decoding=greedy,top_p") == ["decoding=greedy,top_p"]
    assert overrides(["decoding=greedy", "model=gpt2"]) == ["decoding=greedy", "model=gpt2"]


def test_of_a_key_that_takes_a_list_a_list_is_the_value():
    labels = [
        point.generation.stop_strings
        for point in points(overrides(**{"generation.stop_strings": ["a", "b,c"]}))
    ]
    assert labels == [("a", "b,c")]
    several = points(overrides(**{"generation.stop_strings": [["a"], ["b", "c"]]}))
    assert [point.generation.stop_strings for point in several] == [("a",), ("b", "c")]
    (words,) = points(overrides(**{"decoding.bad_words_ids": [[1, 2], [3]]}))
    assert words.decoding.bad_words_ids == ((1, 2), (3,))
    rows = [{"id": "a", "prompt": "x, y", "reference": "{z}"}, "plain"]
    assert points(overrides(prompts={"items": rows}))[0].prompts.items == (rows[0], "plain")


def test_numbers_and_paths_of_other_libraries():
    given = {
        "generation.seed": np.arange(2),
        "decoding.temperature": np.float64(0.5),
        "prompts.file": pathlib.Path("a b.txt"),
    }
    assert overrides(**given) == ["generation.seed=0,1", "decoding.temperature=0.5", 'prompts.file="a b.txt"']
    assert overrides(**{"compare.baseline": None, "drift.enabled": False}) == [
        "compare.baseline=null",
        "drift.enabled=false",
    ]


def test_cases_are_mappings_or_lists_of_overrides():
    words = overrides(
        cases=[{"decoding": "top_p", "decoding.top_p": 0.3}, ["decoding=greedy", "generation.seed=1"]]
    )
    found = points(words)
    assert [(point.decoding.name, point.decoding.top_p) for point in found] == [
        ("top_p", 0.3),
        ("greedy", None),
    ]


def test_functions_become_references():
    def one(generated): ...

    assert overrides(compare={"metrics": [one]}) == ['compare.metrics=["x.py:one"]']


@pytest.mark.parametrize(
    ("keys", "key", "message"),
    [
        ({"decoding": "greedy,top_p"}, "decoding='greedy,top_p'", "decoding=['greedy', 'top_p']"),
        ({"prompts": ["Once upon"]}, "prompts=['Once upon']", "prompts={'items': ['Once upon']}"),
        ({"decoding": []}, "decoding", "an empty list"),
        ({"model": object()}, "model", "an object"),
        ({"a b": 1}, "'a b'", "no such key"),
        ({"expect": [{"top": {"é": 1}}]}, "expect", "into an experiment's file"),
    ],
)
def test_what_no_config_can_hold(keys, key, message):
    with pytest.raises(ConfigError) as error:
        overrides(**keys)
    (mistake,) = error.value.mistakes
    assert mistake.key == key
    assert message in mistake.message


def test_all_mistakes_come_at_once():
    with pytest.raises(ConfigError) as error:
        overrides([1, "model=gpt2"], decoding=[], model=object())
    assert [mistake.key for mistake in error.value.mistakes] == ["1", "decoding", "model"]


def test_the_cures_work():
    assert [point.decoding.name for point in points(overrides(decoding=["greedy", "top_p"]))] == [
        "greedy",
        "top_p",
    ]
    assert points(overrides(prompts={"items": ["Once upon"]}))[0].prompts.items == ("Once upon",)
