"""Every Python block of the guides runs, in order, in one process; with the smallest model."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
GUIDE = GUIDES / "python.md"


def blocks(guide=GUIDE):
    return re.findall(r"^```python\n(.*?)^```$", guide.read_text(), re.M | re.S)


def test_the_blocks_of_the_guide_to_plugins_run():
    for block in blocks(GUIDES / "plugins.md"):
        exec(block, {})


def test_the_guide_to_plugins_has_the_entry_points_of_the_example():
    example = tomllib.loads((GUIDES.parents[1] / "examples" / "plugin" / "pyproject.toml").read_text())
    (shown,) = re.findall(r"^```toml\n(.*?)^```$", (GUIDES / "plugins.md").read_text(), re.M | re.S)
    assert tomllib.loads(shown)["project"]["entry-points"] == example["project"]["entry-points"]


@pytest.mark.slow
def test_every_block_runs(elsewhere, outputs, migrated, one_thread, capsys):
    outputs.mkdir()
    (outputs / "mlflow.db").write_bytes(migrated.read_bytes())
    names = {}
    assert len(blocks()) >= 12
    for block in blocks():
        if file := re.match(r"# (\w+\.py)\n", block):
            (elsewhere / file[1]).write_text(block)
            continue
        try:
            exec(compile(block.replace("fable_small", "fable_tiny"), str(GUIDE), "exec"), names)
        except Exception as error:
            raise AssertionError(f"this block failed:\n{block}") from error
    printed = capsys.readouterr().out
    assert "dekoding" not in printed
    assert "modle=fable_tiny -> no such key; did you mean model?" in printed
    assert len(names["trial"].generations()) == 2


def test_every_function_and_method_is_in_the_guide():
    import harness

    text = GUIDE.read_text()
    for name in ("sweep", "plan", "check", "load", "generate", "inspect", "replay", "session"):
        assert f"harness.{name}(" in text
    for name in vars(harness.Result):
        if not name.startswith("_"):
            assert f"{name}" in text or name in ("answer", "name", "folder"), name
