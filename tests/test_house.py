"""The layout of the package: what the import contracts (`make lint`) do not see."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import harness

PACKAGE = Path(harness.__file__).parent
SHARED_NAMES = {"__init__.py", "base.py", "backend.py"}


def files() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts]


def test_a_file_name_stands_once() -> None:
    names = Counter(path.name for path in files())
    assert {name for name, count in names.items() if count > 1} <= SHARED_NAMES


def test_no_file_is_long() -> None:
    long = {path.name: lines for path in files() if (lines := len(path.read_text().splitlines())) > 350}
    assert not long


def test_there_is_one_console() -> None:
    """Another one would print hostile text as it is (`report/console.py`)."""
    users = [path.name for path in files() if re.search(r"(?m)^from rich.*\bConsole\b", path.read_text())]
    assert users == ["console.py"]


def test_a_plan_imports_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "mlflow", "pyarrow", "numpy", "scipy", "bokeh"]
    code = f"import sys, harness.plan.plan; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_benchmark_runs_by_its_name_alone() -> None:
    """As `make bench` runs them, one after the other: one that fails keeps the rest from running."""
    folder = Path(__file__).parent / "benchmarks"
    (names,) = (
        ast.literal_eval(node.value)
        for node in ast.parse((folder / "__main__.py").read_text()).body
        if isinstance(node, ast.Assign)
    )
    assert len(names) > 10
    for name in names:
        body = ast.parse((folder / f"{name}.py").read_text()).body
        (main,) = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == "main")
        assert len(main.args.args) == len(main.args.defaults), name
