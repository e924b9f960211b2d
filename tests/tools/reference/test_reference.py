"""The reference pages: they are what the code says now, and leave nothing out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import harness
from harness.config import schema
from harness.config.expectation import Expectation
from harness.config.launcher import LocalGpus
from harness.config.search_path import conf_folder
from harness.store.column_meanings import _OF_A_TABLE, _SHARED, ADDED, TABLES
from harness.store.tables import SCHEMAS
from tools.reference.__main__ import FOLDER
from tools.reference.machine_page import VARIABLES
from tools.reference.markdown import prose, sentence, table
from tools.reference.pages import pages

PACKAGE = Path(harness.__file__).parent


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return pages()


def test_the_committed_pages_are_those_of_the_code(written: dict[str, str]) -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    outdated = [name for name in {*written, *committed} if written.get(name) != committed.get(name)]
    assert not outdated, "run `make reference` and commit docs/reference"


def test_every_field_of_the_config_has_a_description() -> None:
    models = {**schema.sections(), "expect": Expectation, "hydra.launcher": LocalGpus}
    missing = [
        f"{section}.{name}"
        for section, model in models.items()
        for name, info in model.model_fields.items()
        if not info.description
    ]
    assert missing == []


def test_every_key_of_every_choice_is_in_the_reference(written: dict[str, str]) -> None:
    anchors = set(re.findall(r'<a id="([^"]+)">', written["config.md"] + written["decoding.md"]))
    assert set(schema.value_keys()) <= anchors
    for path in conf_folder().glob("*/*.yaml"):
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        assert {f"{path.parent.name}.{key}" for key in values} <= anchors, path
        page = written["strategies.md" if path.parent.name == "decoding" else "config.md"]
        assert (f"### {path.stem}\n" if path.parent.name == "decoding" else f"={path.stem}`") in page


def test_every_column_has_a_meaning_and_no_other_has(written: dict[str, str]) -> None:
    columns = {name: {*schema.names, *ADDED.get(name, ())} for name, schema in SCHEMAS.items()}
    assert TABLES.keys() == SCHEMAS.keys()
    for name, own in _OF_A_TABLE.items():
        assert own.keys() <= columns[name]
    assert _SHARED.keys() <= set().union(*columns.values())
    for name, known in columns.items():
        assert {f'<a id="{name}.{column}">' for column in known} <= set(
            re.findall(r'<a id="[^"]+">', written["tables.md"])
        )


def test_every_public_name_is_in_the_reference_and_described(written: dict[str, str]) -> None:
    page = written["python.md"]
    assert [name for name in getattr(harness, "__all__", ()) if f"harness.{name}" not in page] == []
    assert "` |  |" not in page
    assert "` | \n" not in page


def test_every_environment_variable_that_is_read_is_named() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    read = set(re.findall(r'environ(?:\.get\(|\[|\.setdefault\()"([A-Z_]+)"', text))
    # Not those that the shell, a scheduler or Python sets, nor what torch and MLflow are told.
    others = ("COMP_", "MLFLOW_", "SLURM_", "SUBMITIT_", "RAY_", "PYTHON", "TORCH_")
    assert {name for name in read if not name.startswith(others)} <= VARIABLES.keys()


def test_text_is_shown_as_it_is() -> None:
    assert (
        prose("a_b <x> `c_d` [e] *f* g.h=1 min_p.") == "`a_b` &lt;x&gt; `c_d` \\[e\\] \\*f\\* g.h=1 `min_p`."
    )
    assert sentence("from 1 to 2") == "From 1 to 2."
    assert sentence("llama.cpp's own.") == "llama.cpp's own."
    assert table(("a", "b"), [("`x|y`", "1\n2")]) == "| a | b |\n| --- | --- |\n| `x\\|y` | 1 2 |"
