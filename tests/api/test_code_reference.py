"""Functions become references to files, and what has no file is refused or only tried."""

from __future__ import annotations

import functools
import gc
import importlib
import subprocess
import sys
import textwrap

import pytest

import harness
from harness.api import trial as trials
from harness.api.code_reference import code_reference

from .conftest import SMALL, TINY

METRIC = '''
def letters(generated):
    """How many letters."""
    return len(generated.output)


class Holder:
    def method(self): ...


def outer():
    def inner(generated): ...

    return inner


def decorated(function):
    return functools.wraps(function)(lambda generated: function(generated) + 1)


shorter = lambda generated: 1
'''


@pytest.fixture
def module(elsewhere):
    """A module of the working folder, whose name no other test has."""
    name = f"metrics_{elsewhere.parent.name.replace('-', '_')}"
    (elsewhere / f"{name}.py").write_text("import functools\n" + METRIC)
    yield importlib.import_module(name)
    del sys.modules[name]


def test_a_function_or_class_of_a_file(module, elsewhere, monkeypatch):
    assert code_reference("k", module.letters) == f"{module.__name__}.py:letters"
    assert code_reference("k", module.Holder) == f"{module.__name__}.py:Holder"
    monkeypatch.chdir(elsewhere.parent)
    assert code_reference("k", module.letters) == f"{elsewhere.name}/{module.__name__}.py:letters"
    (elsewhere / "other").mkdir()
    monkeypatch.chdir(elsewhere / "other")
    assert code_reference("k", module.letters) == f"{elsewhere}/{module.__name__}.py:letters"


def test_what_has_no_address(module):
    cases = {
        "is a lambda": [lambda generated: 1, module.shorter],
        "is defined in a function": [module.outer()],
        "is in the class Holder": [module.Holder.method],
        "is an object of partial": [functools.partial(module.letters)],
        "is in no file": [len, int],
    }
    for reason, functions in cases.items():
        for function in functions:
            with pytest.raises(harness.ConfigError, match=reason) as error:
                code_reference("compare.metrics", function)
            assert "store=False" in str(error.value)
    with pytest.raises(harness.ConfigError, match=r"compare.metrics=.*is a lambda"):
        harness.check(compare={"metrics": [lambda generated: 1]}, **SMALL)


def test_a_file_that_was_changed(module, elsewhere):
    file = elsewhere / f"{module.__name__}.py"
    file.write_text("import functools\n\n\n# Moved down.\n" + METRIC)
    assert code_reference("k", module.letters).endswith(":letters")
    file.write_text("import functools\n" + METRIC.replace("len(generated.output)", "2"))
    with pytest.raises(harness.ConfigError, match="was changed since it was imported"):
        code_reference("k", module.letters)


def test_files_that_cannot_run_by_themselves(elsewhere):
    (elsewhere / "pack").mkdir()
    (elsewhere / "pack" / "__init__.py").write_text("")
    (elsewhere / "pack" / "relative.py").write_text("if 0:\n    from . import x\ndef f(g): ...\n")
    from pack.relative import f

    with pytest.raises(harness.ConfigError, match="has relative imports"):
        code_reference("k", f)
    del sys.modules["pack.relative"], sys.modules["pack"]


def test_a_script_that_sweeps_is_not_run_again(elsewhere):
    script = textwrap.dedent("""
        import harness
        def f(generated): return 1
        try:
            harness.check(model="fable_tiny", compare={"metrics": [f]})
        except harness.ConfigError as error:
            print(error)
    """)
    (elsewhere / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert "script.py calls the harness when it is run" in done.stdout, done.stderr
    guarded = script.replace("try:", "if __name__ == '__main__':\n  try:").replace("except", "  except")
    (elsewhere / "script.py").write_text(
        guarded.replace("    harness", "      harness").replace("    print", "      print")
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_a_metric_and_a_loop_of_ones_own(module, elsewhere):
    keys = {**TINY, "compare": {"metrics": [module.letters]}, "decoding": "greedy"}
    result = harness.sweep(**keys)
    rows = result.generations(["output", "own_letters"]).rows()
    assert [row["own_letters"] for row in rows] == [len(row["output"]) for row in rows]
    assert (result.folder / "plan.json").read_text().count(f'"{module.__name__}.py:letters"')


def test_a_trial_takes_anything_and_leaves_nothing(outputs):
    seen = []

    def counted(generated):
        seen.append(generated.output)
        return len(generated.output)

    result = harness.sweep(
        decoding="greedy", compare={"metrics": [counted, lambda generated: 7]}, store=False, **TINY
    )
    rows = result.generations(["output", "own_counted", "own_function"]).rows()
    assert [row["own_counted"] for row in rows] == [len(row["output"]) for row in rows]
    assert {row["own_function"] for row in rows} == {7}
    assert sorted(set(seen)) == sorted(row["output"] for row in rows)
    assert not outputs.exists()
    folder = result.folder
    assert folder.is_dir()
    assert len(trials._live) == 2
    del result
    gc.collect()
    assert not folder.exists()
    assert not trials._live
    with pytest.raises(harness.ConfigError, match="no effect with store=False"):
        harness.sweep(decoding="greedy", store=False, outputs="x", **TINY)
    with pytest.raises(harness.ConfigError, match="nothing of a trial is kept"):
        harness.sweep("tracking.uri=x", store=False)
