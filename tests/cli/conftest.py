"""Commands run without engine or models: what reaches the sweep is recorded instead."""

import sys
import types

import pytest

from harness.cli import main


class Recorded:
    """What a command came to: status, what was printed, and the points that reached run, plan or check."""

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

        run_module = types.ModuleType("harness.sweep.run")
        run_module.run_sweep = record("run")
        show_module = types.ModuleType("harness.sweep.show")
        show_module.show_plan = record("plan")
        show_module.show_check = record("check")
        monkeypatch.setitem(sys.modules, "harness.sweep.run", run_module)
        monkeypatch.setitem(sys.modules, "harness.sweep.show", show_module)
        before = set(tmp_path.iterdir())
        ended = main(list(words))
        assert set(tmp_path.iterdir()) == before, "a command left something in the working folder"
        printed = capsys.readouterr()
        return Recorded(ended, printed.out, printed.err, calls)

    return run
