"""Plug-ins are found by their names, and one that is broken is told of only where it is asked for."""

from __future__ import annotations

import sys

import pytest
from made_plugins import Plugins

import harness
from harness.config.arguments import Arguments
from harness.config.hydra_app import compose

METRIC = "def shouts(generated):\n    'Exclamation marks.'\n    return generated.output.count('!')\n"
PROCESSOR = """
class Boost:
    def __init__(self, bias=1.0): self.bias = bias
    def __call__(self, input_ids, scores): return scores + self.bias
"""
GROUPS = {
    "harness.conf": {"loud": "loud"},
    "harness.metrics": {"shouts": "loud.metrics:shouts"},
    "harness.processors": {"boost": "loud.processors:Boost"},
}
FILES = {
    "loud/__init__.py": "raise SystemExit('imported although only its folder was asked for')\n",
    "loud/conf/decoding/loud.yaml": "# Loud.\ndo_sample: true\ntemperature: 1.5\n",
}
KEYS = {"model": "fable_tiny", "prompts": {"limit": 1}, "timing": "off", "tracking": "off"}


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    found = Plugins(tmp_path / "site")
    found.folder.mkdir()
    monkeypatch.syspath_prepend(found.folder)
    yield found
    found.forget()


def points(*words):
    return compose(Arguments(flags=["-m"], overrides=list(words))).points


def refused(*words):
    with pytest.raises(harness.ConfigError) as error:
        points(*words)
    return str(error.value)


def test_a_strategy_of_a_package(plugins):
    plugins.add("loud", GROUPS, FILES)
    _, loud = points("decoding=greedy,loud")
    assert (loud.decoding.name, loud.decoding.temperature) == ("loud", 1.5)
    assert "loud" not in sys.modules
    assert "top_p, typical" in refused("decoding=lod")
    assert "did you mean loud" in refused("decoding=lod")


def test_a_name_that_is_taken(plugins):
    files = {"loud/__init__.py": "", "loud/conf/decoding/greedy.yaml": "do_sample: false\n"}
    plugins.add("loud", {"harness.conf": {"loud": "loud"}}, files)
    assert "decoding=greedy: two choices have this name" in refused("decoding=top_p")


def test_a_broken_package_is_told_of_where_a_choice_is_missed(plugins):
    plugins.add("lost", {"harness.conf": {"lost": "lost_package"}})
    plugins.add("empty", {"harness.conf": {"empty": "empty_package"}}, {"empty_package/__init__.py": ""})
    assert len(points("decoding=greedy,top_p")) == 2
    text = refused("decoding=loud")
    assert "the plug-in lost of lost 1.0 does not work: there is no package lost_package" in text
    assert "the plug-in empty of empty 1.0 does not work: empty_package has no folder conf" in text
    assert "\n" not in text


def test_metrics_by_name(plugins):
    files = {"loud/__init__.py": "", "loud/metrics.py": METRIC}
    plugins.add(
        "loud", {"harness.metrics": {"shouts": "loud.metrics:shouts", "broken": "loud.nothing:f"}}, files
    )
    assert harness.check("compare.metrics=[shouts]", decoding="greedy", **KEYS).points
    text = refused("compare.metrics=[shout]")
    assert text.startswith("compare.metrics=shout: must be FILE.py:FUNCTION; no plug-in has this name")
    assert "did you mean shouts" in text
    with pytest.raises(harness.ConfigError) as error:
        harness.check("compare.metrics=[broken]", decoding="greedy", **KEYS)
    problem = "compare.metrics=broken: the plug-in broken of loud 1.0 does not work: ModuleNotFoundError"
    assert str(error.value).startswith(problem)


def test_two_packages_of_one_name(plugins):
    for name in ("loud", "louder"):
        plugins.add(name, {"harness.metrics": {"shouts": f"{name}:shouts"}}, {f"{name}.py": METRIC})
    text = refused("compare.metrics=[shouts]")
    assert (
        text == "compare.metrics=shouts: two plug-ins have this name, of loud 1.0 and louder 1.0; "
        "uninstall one of them"
    )


def addresses(*words):
    return harness.plan(list(words), decoding="top_p", **KEYS).points()["point_id"]


def test_a_processor_by_name_and_its_version_in_the_address(plugins, tmp_path, monkeypatch):
    files = {"loud/__init__.py": "", "loud/processors.py": PROCESSOR}
    groups = {"harness.processors": {"boost": "loud.processors:Boost"}}
    plugins.add("loud", groups, files)
    by_name = addresses("decoding.processors=[boost]")
    assert by_name == addresses("decoding.processors=['loud.processors:Boost']")
    assert by_name != addresses("decoding.processors=[{path: boost, bias: 2.0}]")
    assert "no plug-in has this name; did you mean boost?" in refused(
        "decoding=top_p", "decoding.processors=[bost]"
    )
    plugins.forget()
    newer = Plugins(tmp_path / "newer")
    newer.folder.mkdir()
    newer.add("loud", groups, files, version="2.0")
    monkeypatch.setattr(
        sys, "path", [str(newer.folder), *(one for one in sys.path if one != str(plugins.folder))]
    )
    assert addresses("decoding.processors=[boost]") != by_name
    newer.forget()


def test_a_backend_by_name(plugins, outputs):
    code = (
        "from fake_backends import FakeTarget, text_only\n"
        "def echo(point, once):\n    return FakeTarget(text_only)\n"
    )
    plugins.add("echoes", {"harness.backends": {"echo": "echoes:echo"}}, {"echoes.py": code})
    keys = {**KEYS, "decoding": "greedy", "quiet": True}
    result = harness.sweep("backend.kind=echo", **keys)
    result.raise_for_failures()
    assert " echo of " in result.generations()["output"][0]
    assert result[0].environment()["plugins"] == {"echoes": "1.0"}
    assert (
        "must be hf, vllm, onnx, openvino, openai, or a plug-in; no plug-in has this name; did you mean echo?"
        in refused("backend.kind=ecco")
    )


def test_doctor_lists_them(plugins):
    from harness.cli.doctor import plugin_table

    plugins.add("loud", GROUPS, {**FILES, "loud/__init__.py": "", "loud/metrics.py": METRIC})
    table = plugin_table()
    columns = [list(column.cells) for column in table.columns]
    rows = {
        (name, kind): (package, str(works), why)
        for name, kind, package, works, why in zip(*columns, strict=True)
    }
    assert rows["loud", "conf"] == ("loud 1.0", "yes", "")
    assert rows["shouts", "metrics"] == ("loud 1.0", "yes", "")
    package, works, why = rows["boost", "processors"]
    assert (package, works) == ("loud 1.0", "no")
    assert why.endswith("ModuleNotFoundError: No module named 'loud.processors'")


@pytest.mark.parametrize("form", ["pkg://loud.conf", "file://{folder}/loud/conf"])
def test_the_search_path_takes_packages_and_folders(plugins, form):
    files = {
        "loud/__init__.py": "",
        "loud/conf/__init__.py": "",
        "loud/conf/decoding/__init__.py": "",
        "loud/conf/decoding/loud.yaml": FILES["loud/conf/decoding/loud.yaml"],
    }
    plugins.add("loud", {}, files)
    place = form.format(folder=plugins.folder)
    _, loud = points(f"hydra.searchpath=['{place}']", "decoding=greedy,loud")
    assert loud.decoding.temperature == 1.5
