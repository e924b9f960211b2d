"""Misspelt groups, choices and keys are found, all of them, with the most similar known name."""

import shlex

import pytest

from harness.config.groups import ConfigGroups
from harness.config.overrides import check_overrides, parse_override, unknown_key
from harness.config.schema import value_keys
from harness.config.suggest import most_similar
from harness.config.unsupported_keys import UNSUPPORTED_KEYS


@pytest.fixture(scope="module")
def groups():
    return ConfigGroups()


def lines(groups, *overrides):
    return [str(mistake) for mistake in check_overrides(overrides, groups).mistakes]


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
        (
            "hydra/launcher=joblib",
            "would run every point by itself, with a load of its own; use hydra/",
        ),
        ("hydra/launcher=local_gpu", "no such launcher; did you mean local_gpus?"),
        ("hydra/launcher=basic,local_gpus", "no such launcher"),
        ("hydra.launcher.worker=2", "no such key; did you mean hydra.launcher.workers?"),
        ("hydra.launcher.workers=2", "no effect without a launcher; add hydra/launcher=local_gpus"),
        ("decodin=greedy", "no such key; did you mean decoding?"),
        ("decoding=top_pp", "no such choice; did you mean top_p? (choices: adaptive_p, "),
        ("decoding=greedy,top_pp", "decoding=top_pp: no such choice; did you mean top_p?"),
        ("decoding=choice(greedy,top_pp)", "decoding=top_pp: no such choice; did you mean top_p?"),
        ("experiments=dmo", "no such choice; did you mean demo?"),
        ("+experiments=dmo", "no such choice; did you mean demo?"),
        ("experiments=demo,seed_notebook", "one experiment at a time"),
        ("decoding.max_length=9", "use generation.max_new_tokens=9: max_length counts the prompt too"),
        ("decoding.max_new_tokens=9", "did you mean generation.max_new_tokens?"),
        (
            "decoding.constraints=[3]",
            "use decoding.force_words, a list of words, or decoding.force_words_ids",
        ),
        ("decoding.num_return_sequences=2", "use generation.samples"),
        ("decoding.eos_token_id=2", "generation.ignore_eos=true"),
        ("~decoding", "cannot be deleted; choose another: decoding=CHOICE"),
        ("~decoding.top_p", "cannot be deleted; set it to null: decoding.top_p=null"),
        ("decoding@other=greedy", "a package (@other) is not supported"),
        (
            "generation=5",
            "generation has no choices; set its keys, as in generation.max_new_tokens=...",
        ),
        ("generation={sampels:5}", "no such key; did you mean generation.samples?"),
        ("prompts.items.0=x", "prompts.items can only be set as a whole"),
        ("prompts.items=[a", "cannot be parsed; quote"),
        ("greedy", "greedy: expected key=value; did you mean decoding=greedy?"),
        ("decoding.name=x", "a choice's name is the name of its YAML file"),
        (
            "engine.replay=true",
            "no such key; the feature was removed, every point is decoded; `harness replay",
        ),
        ("cases=[[decoding]]", "decoding: expected key=value"),
    ],
)
def test_a_wrong_name_is_one_line(groups, override, line):
    (shown,) = lines(groups, override)
    assert line in shown
    assert "\n" not in shown


@pytest.mark.parametrize(
    "value",
    ["It's", 'say "It\'s"', "a, b'", "[a", "it's $HOME `x` \\ !", "ends in \\'\\"],
)
def test_the_cure_can_be_copied_into_a_shell(groups, value):
    """The suggested command comes back from a shell and Hydra as the text that was meant."""
    (line,) = lines(groups, f"prompts.template={value}")
    (word,) = shlex.split(line.partition("brackets: ")[2])
    assert parse_override(word).key_or_group == "prompts.template"
    assert parse_override(word).value() == value


def test_the_cure_of_a_list_is_a_list_of_texts(groups):
    (shown,) = lines(groups, "prompts.items=[it's, two]")
    (word,) = shlex.split(shown.partition("brackets: ")[2])
    assert parse_override(word).value() == ["it's", "two"]


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
def test_a_right_name_is_left_as_it_is(groups, override):
    checked = check_overrides([override], groups)
    assert checked.mistakes == []
    assert checked.overrides == [override]


def test_a_needless_plus_is_removed(groups):
    assert check_overrides(["+decoding.top_k=5", "++decoding=top_k"], groups).overrides == [
        "decoding.top_k=5",
        "decoding=top_k",
    ]


def test_all_mistakes_are_found_and_the_rest_is_kept(groups):
    checked = check_overrides(
        ["decoding=top_pp", "generation.seed=3", "model=fable", "generation.sed=1", "record.top_k=1,2"],
        groups,
    )
    assert len(checked.mistakes) == 3
    assert checked.overrides == ["generation.seed=3", "record.top_k=1,2"]
    assert checked.faulty == {"decoding", "model", "generation"}
    assert checked.sweeps == ["record.top_k=1,2"]


def test_the_advice_is_true():
    """A key named as the cure exists; an unsupported key does not."""
    last = {key.rpartition(".")[2] for key in value_keys()}
    # Keys of one section alone; in another one the advice says which is meant.
    elsewhere = ("batch_size", "num_assistant_tokens", "max_matching_ngram_size")
    for wrong, cure in UNSUPPORTED_KEYS.items():
        assert wrong not in last or wrong in elsewhere
        for word in cure.replace(",", " ").replace(":", " ").replace(";", " ").split():
            name = word.partition("=")[0].rstrip(".")
            if "." in name:
                assert name in value_keys(), name


def test_nothing_is_suggested_when_nothing_is_similar():
    assert most_similar("xyzzy", ["greedy", "top_p"]) is None


def test_every_one_letter_slip_in_a_key_finds_it():
    for key in value_keys():
        section, _, name = key.partition(".")
        if len(name) > 3:
            assert most_similar(f"{section}.{name[:-2]}{name[-1]}", value_keys()) == key


@pytest.mark.parametrize(
    ("overrides", "earlier", "kept"),
    [
        (["generation.seed=1", "generation.seed=2"], "generation.seed=1", ["generation.seed=2"]),
        (["generation.seed=1", "+generation.seed=1"], "generation.seed=1", ["generation.seed=1"]),
        (["decoding=greedy,beam", "decoding=top_p"], "decoding=greedy,beam", ["decoding=top_p"]),
        (["timing=off", "record.top_k=1", "timing=quick"], "timing=off", ["record.top_k=1", "timing=quick"]),
        (["generation.seed=2", "generation={seed: 1}"], "generation.seed=2", ["generation={seed: 1}"]),
        (["hydra.mode=RUN", "hydra.mode=MULTIRUN"], "hydra.mode=RUN", ["hydra.mode=MULTIRUN"]),
        (
            ["experiments=demo", "experiments=seed_notebook"],
            "experiments=demo",
            ["experiments=seed_notebook"],
        ),
        (  # of a mapping only a part is replaced
            ["generation={seed: 1, samples: 2}", "generation.seed=3"],
            "generation={seed: 1, samples: 2}",
            ["generation={seed: 1, samples: 2}", "generation.seed=3"],
        ),
    ],
)
def test_the_last_of_several_counts_and_the_others_are_said(groups, overrides, earlier, kept):
    checked = check_overrides(overrides, groups)
    assert checked.mistakes == []
    assert checked.overrides == kept
    assert set(checked.sweeps) <= set(kept)
    (said,) = checked.repeated
    assert said.key == earlier
    assert "no effect" in said.message
    assert "comes after it" in said.message


@pytest.mark.parametrize(
    ("overrides", "repeated"),
    [
        (["decoding=top_p", "decoding.top_p=0.5"], []),
        (["timing=quick", "timing={prompts: 2}"], []),
        (["generation={seed: 1}", "generation={samples: 2}"], []),
    ],
)
def test_a_choice_and_its_keys_are_no_repetition(groups, overrides, repeated):
    assert check_overrides(overrides, groups).repeated == repeated


@pytest.mark.parametrize(
    ("override", "cure"),
    [
        ("hydra.run.dir=x", "HARNESS_OUTPUTS=FOLDER names the folder"),
        ("hydra.sweep.dir=x", "HARNESS_OUTPUTS=FOLDER names the folder"),
        ("hydra.sweep.subdir=x", "HARNESS_OUTPUTS=FOLDER names the folder"),
        ("hydra.output_subdir=x", "HARNESS_OUTPUTS=FOLDER names the folder"),
        ("hydra.job.name=x", "leave this out"),
        ("hydra.job.chdir=true", "leave this out"),
        ("+hydra.callbacks.x._target_=os.getcwd", "leave this out"),
        ("++hydra.job_logging.handlers.x.class=logging.FileHandler", "leave this out"),
        ("hydra/job_logging=default", "leave this out"),
        ("hydra.sweeper.max_batch_size=3", "leave this out"),
        ("hydra.sweeper.params=5", "must be a mapping"),
        ("hydra.sweeper.params={decodin: beam}", "did you mean decoding?"),
        ("hydra.modes=RUN", "leave this out"),
    ],
)
def test_a_key_of_hydra_without_effect_is_refused(groups, override, cure):
    (line,) = lines(groups, override)
    assert line.startswith(override)
    assert cure in line


def test_no_key_is_suggested_for_itself(groups):
    for key in value_keys():
        assert f"did you mean {key}?" not in str(unknown_key(key, key, groups))
