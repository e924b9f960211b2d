"""Misspelt groups, choices and keys are found, all of them, with the nearest right name."""

import shlex

import pytest

from harness.config.overrides import check_overrides, parse
from harness.config.schema import value_keys
from harness.config.search_path import Catalog
from harness.config.suggest import nearest
from harness.config.unsupported_keys import ELSEWHERE


@pytest.fixture(scope="module")
def catalog():
    return Catalog()


def told(catalog, *overrides):
    return [str(mistake) for mistake in check_overrides(overrides, catalog).mistakes]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("decoding.temprature=0.5", "no such key; did you mean decoding.temperature?"),
        ("+decoding.temprature=0.5", "no such key; did you mean decoding.temperature?"),
        ("++decoding.temprature=0.5", "no such key; did you mean decoding.temperature?"),
        ("decoding.temprature=0.5,0.9", "no such key; did you mean decoding.temperature?"),
        ("temperature=0.5", "no such key; did you mean decoding.temperature?"),
        ("model.temperature=0.5", "no such key; did you mean decoding.temperature?"),
        ("generation.sampels=2", "no such key; did you mean generation.samples?"),
        ("decodin=greedy", "no such key; did you mean decoding?"),
        ("decoding=top_pp", "no such choice; did you mean top_p? (choices: beam, "),
        ("decoding=greedy,top_pp", "decoding=top_pp: no such choice; did you mean top_p?"),
        ("decoding=choice(greedy,top_pp)", "decoding=top_pp: no such choice; did you mean top_p?"),
        ("experiments=dmo", "no such choice; did you mean demo?"),
        ("+experiments=dmo", "no such choice; did you mean demo?"),
        ("experiments=demo,seed_notebook", "one experiment at a time"),
        ("decoding.max_length=9", "use generation.max_new_tokens: max_length counts the prompt too"),
        ("decoding.max_new_tokens=9", "did you mean generation.max_new_tokens?"),
        ("decoding.penalty_alpha=0.6", "transformers moved it to a hub repository that runs remote code"),
        ("decoding.num_return_sequences=2", "use generation.samples"),
        ("decoding.eos_token_id=2", "generation.ignore_eos=true"),
        ("~decoding", "nothing can be taken out"),
        ("~decoding.top_p", "nothing can be taken out; set it to null: decoding.top_p=null"),
        ("decoding@other=greedy", "a package (@other) is not supported"),
        (
            "generation=5",
            "generation is no group of choices; set its keys, as in generation.max_new_tokens=...",
        ),
        ("generation={sampels:5}", "no such key; did you mean generation.samples?"),
        ("prompts.items.0=x", "prompts.items is set as a whole"),
        ("prompts.items=[a", "cannot be read; quote"),
        ("greedy", "greedy: is no key=value; did you mean decoding=greedy?"),
        ("decoding.name=x", "a choice's name is the name of its YAML file"),
        ("cases=[[decoding]]", "decoding: is no key=value"),
    ],
)
def test_a_wrong_name_is_one_line(catalog, override, line):
    (told_line,) = told(catalog, override)
    assert line in told_line
    assert "\n" not in told_line


@pytest.mark.parametrize(
    "value",
    ["It's", 'say "It\'s"', "a, b'", "[a", "it's $HOME `x` \\ !", "ends in \\'\\"],
)
def test_the_cure_can_be_copied_into_a_shell(catalog, value):
    """What is told to be typed comes back from a shell and Hydra as the text that was meant."""
    (line,) = told(catalog, f"prompts.template={value}")
    (word,) = shlex.split(line.partition("brackets: ")[2])
    assert parse(word).key_or_group == "prompts.template"
    assert parse(word).value() == value


@pytest.mark.parametrize(
    "override",
    [
        "decoding=greedy",
        "decoding=glob(*)",
        "timing=off",
        "tracking=off",
        "quantization=none",
        "decoding.top_p=0.9",
        "decoding.top_p=range(0.1,0.9,0.1)",
        "generation={samples: 2}",
        "hydra.verbose=true",
        "experiments=demo",
        "prompts.items=[one, 'two, three']",
    ],
)
def test_a_right_name_is_left_as_it_is(catalog, override):
    checked = check_overrides([override], catalog)
    assert checked.mistakes == []
    assert checked.overrides == [override]


def test_a_needless_plus_is_taken_off(catalog):
    assert check_overrides(["+decoding.top_k=5", "++decoding=top_k"], catalog).overrides == [
        "decoding.top_k=5",
        "decoding=top_k",
    ]


def test_all_mistakes_are_found_and_the_rest_is_kept(catalog):
    checked = check_overrides(
        ["decoding=top_pp", "generation.seed=3", "model=fable", "generation.sed=1", "record.top_k=1,2"],
        catalog,
    )
    assert len(checked.mistakes) == 3
    assert checked.overrides == ["generation.seed=3", "record.top_k=1,2"]
    assert checked.faulty == {"decoding", "model", "generation"}
    assert checked.sweeps == ["record.top_k=1,2"]


def test_what_is_told_instead_is_true():
    """A key named as the cure exists; a key said not to exist does not."""
    last = {key.rpartition(".")[2] for key in value_keys()}
    for wrong, cure in ELSEWHERE.items():
        # batch_size is a key of timing alone; elsewhere it is told which one is meant.
        assert wrong not in last or wrong == "batch_size"
        for word in cure.replace(",", " ").replace(":", " ").replace(";", " ").split():
            name = word.partition("=")[0].rstrip(".")
            if "." in name:
                assert name in value_keys(), name


def test_nearest_gives_nothing_for_what_is_like_nothing():
    assert nearest("xyzzy", ["greedy", "top_p"]) is None


def test_every_one_letter_slip_in_a_key_finds_it():
    for key in value_keys():
        part, _, name = key.partition(".")
        if len(name) > 3:
            assert nearest(f"{part}.{name[:-2]}{name[-1]}", value_keys()) == key
