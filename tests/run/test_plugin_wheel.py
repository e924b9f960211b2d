"""The example plug-in: its wheel, built and installed offline, is found and used in a sweep."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness

PACKAGE = Path(__file__).parents[2] / "examples" / "plugin"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Where the wheel is installed, on `sys.path`."""
    pytest.importorskip("setuptools")
    shutil.copytree(PACKAGE, tmp_path / "plugin")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [*pip, "wheel", *offline, "-w", tmp_path, tmp_path / "plugin"], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", site, wheel], check=True, capture_output=True
    )
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "harness_politeness"]:
        del sys.modules[name]


@pytest.mark.slow
def test_a_sweep_uses_it(installed, one_thread):
    result = harness.sweep(
        model="fable_tiny",
        decoding=["greedy", "polite"],
        compare={"metrics": ["politeness"], "goal": "own/politeness"},
        prompts={"limit": 4},
        generation={"max_new_tokens": 24},
        timing="off",
        tracking="off",
        quiet=True,
    )
    result.raise_for_failures()
    assert Path(sys.modules["harness_politeness"].__file__).is_relative_to(installed)
    greedy, polite = result.points.values()
    rows = result.generations(["output", "own_politeness"]).rows()
    words = ("gave", "give", "help", "please", "soft", "thank")
    assert [row["own_politeness"] for row in rows] == [sum(map(row["output"].count, words)) for row in rows]
    assert polite.metrics["own/politeness"] > greedy.metrics["own/politeness"] + 1
    (processor,) = polite.config()["effective"]["decoding"]["processors"]
    assert (processor["path"], processor["code"]) == (
        "harness_politeness.processors:PoliteWords",
        "harness-politeness 0.1.0",
    )
    assert polite.environment()["plugins"] == {"harness-politeness": "0.1.0"}
