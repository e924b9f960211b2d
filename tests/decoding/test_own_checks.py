"""Processors of one's own when a sweep is planned: what they are, what is wrong, what is warned of."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.config.processor_entries import ProcessorEntry, entry_rules, typed_value
from harness.config.rules import check_rules
from harness.decoding.own_checks import planned_processors
from harness.decoding.own_code import ZOO, load_code
from harness.errors import ConfigError, HarnessError

SOURCE = """
import random

class Boost:
    def __init__(self, tokenizer, boost, *, window=3):
        self.boost = boost
    def __call__(self, input_ids, scores):
        return scores * self.boost

class Open:
    def __init__(self, **anything):
        pass
    def __call__(self, input_ids, scores, **more):
        return scores

def scaled(input_ids, scores, model, by=2.0):
    return scores * by

class Silent:
    pass

class Wrong:
    def __call__(self, scores):
        return scores

def short(scores):
    return scores

made = Open()
text = "x"
"""
MEANT = "'decoding.processors=[mine.py:Boost]'? ("


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("def f(:\n    pass\n")
    (tmp_path / "needs.py").write_text("import no_such_package\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")


def mistakes(*entries: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        planned_processors(entries)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("mine.py:Bost", f"mine.py has nothing named Bost; did you mean {MEANT}"),
        ("mien.py:Boost", f"mien.py not found; did you mean {MEANT}"),
        ("nowhere.py:Boost", "nowhere.py not found (looked in /"),
        ("mine.py:Boost", "Boost needs the argument boost; give it beside the path, as in {path: mine.py:B"),
        ({"path": "mine.py:Boost", "boost": 1, "zz": 1}, "Boost has no argument zz (arguments: boost, wind"),
        ({"path": "mine.py:scaled", "scores": 1}, "scaled has no argument scores (arguments: by)"),
        ("mine.py:Silent", "Silent has no __call__; it needs __call__(self, input_ids, scores)"),
        ("mine.py:Wrong", "Wrong.__call__ must take (self, input_ids, scores)"),
        ("mine.py:short", "short must take (input_ids, scores)"),
        ("mine.py:made", "made is an object of type Open; name its class: each text gets an obj"),
        ("mine.py:text", "text is an object of type str; name a class or a function"),
        ("broken.py:f", "broken.py is not valid Python in line 1: "),
        ("needs.py:f", "needs.py cannot be run: ModuleNotFoundError: No module named 'no_such_package'"),
        ("leaves.py:f", "leaves.py cannot be run: SystemExit: 3"),
        ("no_such.module:f", "there is no module no_such; install it, or name a file: FILE.py:CLASS"),
        ("json.no_such:f", "there is no module json.no_such; install it, or name a file: FILE.py:CLASS"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_key_and_cure(entry: Any, message: str) -> None:
    path = entry if isinstance(entry, str) else entry["path"]
    (line,) = mistakes(entry)
    assert line.startswith(f"decoding.processors={path}: {message}")


def test_all_mistakes_are_found_and_a_cure_keeps_the_others() -> None:
    found = mistakes("mine.py:Open", {"path": "mine.py:Boost", "boots": 1, "place": "after"}, "needs.py:f")
    assert len(found) == 2
    meant = "'decoding.processors=[mine.py:Open, {path: mine.py:Boost, place: after, boost: 1}, needs.py:f]'"
    assert f"did you mean {meant}?" in found[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["mine.Boost"], "decoding.processors=mine.Boost: must be FILE.py:CLASS or package.module:CLASS"),
        (["mine.txt:a b"], "decoding.processors=mine.txt:a b: must be FILE.py:CLASS"),
        (
            [{"file": "mine.py:Boost"}],
            "decoding.processors[0]: has no path; a mapping is {path: FILE.py:CLASS, ",
        ),
        ([{"path": 3}], "decoding.processors[0]: has no path"),
        (
            [{"path": "a.py:B", "place": "end", "by": 2}],
            "decoding.processors=a.py:B: place is 'end', not before or after; "
            "use 'decoding.processors=[{path: a.py:B, place: before, by: 2}]'",
        ),
        ([{"path": "a.py:B", "my by": 2}], "decoding.processors=a.py:B: 'my by' is no name of an argument"),
    ],
)
def test_the_form_of_an_entry(values: Any, message: str) -> None:
    (mistake,) = entry_rules(values)
    assert str(mistake).startswith(message)


def test_beams_are_refused() -> None:
    found = check_rules({"decoding": Decoding(name="x", num_beams=3, processors=("mine.py:Open",))})
    assert [str(one) for one in found] == [
        'decoding.processors=["mine.py:Open"]: beam search has transformers\' own processors only; '
        "use decoding=greedy"
    ]


def test_what_is_planned_and_hashed() -> None:
    entries = ("mine.py:Open", {"path": "mine.py:scaled", "place": "after", "by": 3.0})
    planned = planned_processors(entries).fields["processors"]
    assert [one["place"] for one in planned] == ["before", "after"]
    assert planned[1]["arguments"] == {"by": 3.0}
    assert planned[0]["code"] == planned[1]["code"]
    Path("mine.py").write_text(SOURCE + "\n# another line\n")
    again = planned_processors(entries).fields["processors"]
    assert again[0]["code"] != planned[0]["code"]


def test_none_leave_the_strategy_as_it_is() -> None:
    plain = effective_decoding(Decoding(name="x"))
    assert "processors" not in plain
    assert effective_decoding(Decoding(name="x", processors=())) == plain
    assert planned_processors(()).fields == {}


def test_a_file_runs_as_it_was_planned() -> None:
    Path("mine.py").write_text("def text_of(input_ids, scores):\n    return 'old'\n")
    (planned,) = planned_processors(["mine.py:text_of"]).fields["processors"]
    Path("mine.py").write_text("def text_of(input_ids, scores):\n    return 'new'\n")
    entry = ProcessorEntry("mine.py:text_of")
    assert load_code(entry, planned["code"])(0, 0) == "old"
    with pytest.raises(
        HarnessError, match="was changed since the sweep was planned; run the same command again"
    ):
        load_code(entry, "0123456789abcdef")


def test_a_module_stands_for_its_version_or_its_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch

    (of_torch,) = planned_processors(["torch.nn.functional:softmax"]).fields["processors"]
    assert of_torch["code"] == f"torch {torch.__version__}"
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "my_processors_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "one.py").write_text("def f(input_ids, scores):\n    return scores\n")
    (folder / "helper.py").write_text("a = 1\n")
    (first,) = planned_processors(["my_processors_package.one:f"]).fields["processors"]
    (folder / "helper.py").write_text("a = 2\n")
    (second,) = planned_processors(["my_processors_package.one:f"]).fields["processors"]
    assert first["code"] != second["code"]
    for name in [name for name in sys.modules if name.startswith("my_processors_package")]:
        del sys.modules[name]


def test_what_cannot_be_the_same_again_is_warned_of() -> None:
    Path("chance.py").write_text("import time\ndef f(input_ids, scores):\n    return scores * time.time()\n")
    warnings = planned_processors(["mine.py:Open", "chance.py:f"]).warnings
    assert warnings == (
        "decoding.processors=chance.py:f: line 3 uses time.time; samples may differ from run to run, "
        "unless it is seeded in the same way each time",
    )


def test_a_package_that_is_missing_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {ZOO!r}", name=ZOO)

    monkeypatch.setattr(importlib, "import_module", missing)
    (line,) = mistakes({"path": f"{ZOO}.transformers:GenLengthLogitsProcessor", "boost_factor": 1.0})
    assert line.endswith("logits_processor_zoo is not installed: pip install 'decoding-harness[zoo]'")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None, True]}, "{a: [1, null, true]}"),
        ("true", '"true"'),
        ("a.py:B", "a.py:B"),
        ('a "b"', '"a \\"b\\""'),
        ("3", '"3"'),
        ("", '""'),
    ],
)
def test_values_as_hydra_reads_them(value: Any, text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert typed_value(value) == text
    (override,) = OverridesParser.create().parse_overrides([f"x={text}"])
    found = override.value()
    assert getattr(found, "text", found) == value
