"""`harness help` lists what packages add without importing them, and describes each by its name."""

from __future__ import annotations

import sys

import pytest
from made_plugins import Plugins

FILES = {
    "loud/__init__.py": "",
    "loud/metrics.py": '''
def shouts(generated):
    """Exclamation marks of a text.

    And more.
    """
    return generated.output.count("!")


shouts.better = "lower"
''',
    "loud/processors.py": '''
class Louder:
    """Makes exclamation marks likelier."""

    def __init__(self, tokenizer, bias=3.0):
        self.bias = bias

    def __call__(self, input_ids, scores):
        return scores + self.bias
''',
    "loud/engine.py": "def target(point, once):\n    raise NotImplementedError\n",
    "loud/conf/decoding/loud.yaml": "# Loud. Run: harness decoding=loud\ndo_sample: true\ntemperature: 1.5\n",
}
ENTRIES = {
    "harness.conf": {"loud": "loud"},
    "harness.metrics": {"shouts": "loud.metrics:shouts", "cries": "loud.nothing:cries"},
    "harness.processors": {"louder": "loud.processors:Louder"},
    "harness.backends": {"loud_engine": "loud.engine:target"},
}


@pytest.fixture
def loud(tmp_path_factory, monkeypatch):
    plugins = Plugins(tmp_path_factory.mktemp("site"))
    monkeypatch.syspath_prepend(plugins.folder)
    plugins.add("loud-package", ENTRIES, FILES)
    yield plugins
    plugins.forget()


def words(text: str) -> str:
    """A text without its line breaks and columns."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("metrics", "own/shouts shouts compare.metrics=[shouts], of loud-package 1.0"),
        ("metrics", "own/cries cries compare.metrics=[cries], of loud-package 1.0"),
        ("compare", "compare.metrics=[shouts] of loud-package 1.0"),
        ("decoding", "decoding.processors=[louder] of loud-package 1.0"),
        ("decoding", "decoding=loud Loud."),
        ("backend", "backend.kind=loud_engine of loud-package 1.0"),
    ],
)
def test_lists_name_what_packages_add_and_import_none(harness, loud, name, line):
    done = harness("help", name)
    assert (done.status, done.err) == (0, "")
    assert line in words(done.out)
    assert "does not work" not in done.out
    assert not [module for module in sys.modules if module.partition(".")[0] == "loud"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("shouts", "metric own/shouts: Exclamation marks of a text; lower is better; of loud-package 1.0"),
        ("own/shouts", "compare.metrics=[shouts] metric own/shouts: "),
        ("own_shouts", "compare.metrics=[shouts] metric own/shouts: "),
        ("louder", "Makes exclamation marks likelier. Settings: bias [3.0]; of loud-package 1.0"),
        ("loud_engine", "backend.kind=loud_engine loud.engine:target; of loud-package 1.0"),
        ("loud", "conf/decoding/loud.yaml, of loud-package 1.0"),
    ],
)
def test_by_its_name_each_is_described(harness, loud, name, line):
    done = harness("help", name)
    assert (done.status, done.err) == (0, "")
    assert line in words(done.out)
    assert max(map(len, done.out.replace(str(loud.folder), "").splitlines())) <= 110


def test_one_that_is_broken_says_so_in_one_line_when_it_is_asked_for(harness, loud):
    done = harness("help", "cries")
    assert (done.status, done.err) == (0, "")
    problem = "the plug-in cries of loud-package 1.0 does not work: ModuleNotFoundError"
    assert words(done.out).startswith(f"compare.metrics=[cries] {problem}")
    assert "Traceback" not in done.out


def test_a_name_that_is_not_found_tells_of_similar_and_of_broken_ones(harness, loud):
    loud.add("lost", {"harness.conf": {"lost": "lost_package"}})
    done = harness("help", "shout")
    assert done.status == 2
    assert "did you mean shouts?" in done.err
    assert "the plug-in lost of lost 1.0 does not work: there is no package lost_package" in done.err


def test_a_metric_of_ones_own_is_named_as_it_is_asked_for(harness):
    for name in ("own/politeness", "own_politeness"):
        assert "the function politeness of compare.metrics=[FILE.py:politeness]" in words(
            harness("help", name).out
        )


def test_lists_without_plug_ins_do_not_speak_of_them(harness, monkeypatch):
    monkeypatch.setattr("harness.config.plugins._plugins", lambda group, path: ())
    for name in ("metrics", "decoding", "backend", "compare"):
        assert "Of plug-ins" not in harness("help", name).out
