"""Commands as a user runs them, and commands whose points are recorded instead of run."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from harness.cli.main import main


@pytest.fixture(scope="session")
def script():
    """`script("check", ..., folder=...)`: runs the console script in a new process."""
    path = Path(sys.executable).with_name("harness")

    def run(*words, folder, **environment):
        inherited = {
            key: value for key, value in os.environ.items() if key not in ("HARNESS_OUTPUTS", "COLUMNS")
        }
        return subprocess.run(
            [path, *words],
            cwd=folder,
            env=inherited | environment,
            capture_output=True,
            text=True,
            timeout=180,
        )

    return run


class Recorded:
    """The result of a command: status, what was printed, and the points that reached run, plan or check."""

    def __init__(self, status, out, err, calls):
        self.status = status
        self.out = out
        self.err = err
        self.calls = calls

    @property
    def lines(self):
        return self.err.splitlines()

    @property
    def labels(self):
        ((_, points, _),) = self.calls
        return [point.label for point in points]


@pytest.fixture
def harness(monkeypatch, capsys, tmp_path):
    """`harness("-m", "decoding=greedy,top_p", status=0)` runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(*words, status=0, raises=None):
        calls = []

        def record(word):
            def called(points, name=None, files=None):
                calls.append((word, points, name))
                if raises is not None:
                    raise raises
                return status

            return called

        run_module = types.ModuleType("harness.run.sweep")
        run_module.run_sweep = record("run")
        show_module = types.ModuleType("harness.cli.show_plan")
        show_module.show_plan = record("plan")
        show_module.show_check = record("check")
        monkeypatch.setitem(sys.modules, "harness.run.sweep", run_module)
        monkeypatch.setitem(sys.modules, "harness.cli.show_plan", show_module)
        before = set(tmp_path.iterdir())
        ended = main(list(words))
        assert set(tmp_path.iterdir()) == before, "a command left files in the working folder"
        printed = capsys.readouterr()
        return Recorded(ended, printed.out, printed.err, calls)

    return run
