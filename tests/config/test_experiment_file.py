"""An experiment's file is checked before Hydra reads it, wherever it names a key or choice."""

import pytest

from harness.config.experiment_file import check_experiments
from harness.config.groups import ConfigGroups
from harness.config.search_path import built_in, experiment_file, experiment_names

GOOD = """# @package _global_
# A sweep of my own.
defaults:
  - override /timing: "off"
hydra:
  sweeper:
    params:
      decoding: greedy,temperature
generation:
  max_new_tokens: 5
cases:
  - [decoding=greedy, generation.seed=1]
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    monkeypatch.chdir(tmp_path)

    def file(text, name="mine"):
        (tmp_path / "experiments" / f"{name}.yaml").write_text(text, encoding="utf-8")
        return [str(mistake) for mistake in check_experiments([name], ConfigGroups())]

    return file


def test_a_good_one_has_no_mistake(write):
    assert write(GOOD) == []
    assert "mine" in experiment_names()


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("# @package _global_\n", "", "must begin with the line `# @package _global_`"),
        ("max_new_tokens", "max_new_token", "generation.max_new_token=5: no such key; did you mean"),
        ("generation:", "generatoin:", "generatoin: no such key; did you mean generation?"),
        (
            "greedy,temperature",
            "greedy,tempereture",
            "decoding=tempereture: no such choice; did you mean temperature?",
        ),
        ("decoding: greedy", "decoding.top_pp: greedy", "decoding.top_pp=greedy,temperature: no such key"),
        ("greedy,temperature", "[greedy, beam]", "write the choices as one string: `decoding: greedy,beam`"),
        ('/timing: "off"', "/timing: off", "YAML reads an unquoted off, no or on as a boolean"),
        ('/timing: "off"', "/timing: fast", "timing=fast: no such choice"),
        (
            "decoding=greedy, ",
            "decoding=gredy, ",
            "cases: decoding=gredy: no such choice; did you mean greedy?",
        ),
        ("generation.seed=1", "generation.sed=1", "cases: generation.sed=1: no such key"),
        ("generation.seed=1", '"generation.seed=1,2"', "a case is one point"),
        ("[decoding=greedy, generation.seed=1]", "decoding=greedy", "must be a list of overrides"),
        ("generation:\n  max_new_tokens: 5", "decoding: beam", "`- override /decoding: beam`"),
        ("cases:", "hydra: [", "cannot be read as YAML"),
    ],
)
def test_a_mistake_names_the_file(write, old, new, line):
    assert old in GOOD
    (line_shown,) = write(GOOD.replace(old, new))
    assert line in line_shown
    assert "mine" in line_shown
    assert "\n" not in line_shown


def test_two_files_of_one_name_are_a_mistake(write):
    (line_shown,) = write(GOOD, name="demo")
    assert "two files have this name" in line_shown


def test_the_same_folder_twice_is_no_clash(monkeypatch):
    monkeypatch.chdir(built_in("experiments").parent)
    assert experiment_file("demo") == built_in("experiments") / "demo.yaml"


def test_the_built_in_ones_are_right():
    for name in ("demo", "fable_expectations", "seed_notebook", "mistral_4bit"):
        assert check_experiments([name], ConfigGroups()) == []


def test_experiments_that_name_each_other_are_each_checked_once(write):
    (line_shown,) = write(
        GOOD.replace('override /timing: "off"', "/experiments: mine").replace("seed=1", "sed=1")
    )
    assert "generation.sed=1" in line_shown
