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


@dataclasses.dataclass
class Made:
    bias: float = 1.0

    def __call__(self, input_ids, scores):
        return scores


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
    (elsewhere / f"{name}.py").write_text("import dataclasses, functools\n" + METRIC)
    yield importlib.import_module(name)
    del sys.modules[name]


def test_a_function_or_class_of_a_file(module, elsewhere, monkeypatch):
    assert code_reference("k", module.letters) == f"{module.__name__}.py:letters"
    assert code_reference("k", module.Holder) == f"{module.__name__}.py:Holder"
    assert code_reference("k", module.Made) == f"{module.__name__}.py:Made"
    monkeypatch.chdir(elsewhere.parent)
    assert code_reference("k", module.letters) == f"{elsewhere.name}/{module.__name__}.py:letters"
    (elsewhere / "other").mkdir()
    monkeypatch.chdir(elsewhere / "other")
    assert code_reference("k", module.letters) == f"{elsewhere}/{module.__name__}.py:letters"


def cell_of_a_notebook():
    """What a kernel makes of a cell: its file exists in name only."""
    names = {"__name__": "__main__"}
    exec(compile("def f(g): ...\nclass C: ...", "/tmp/ipykernel_7/1234.py", "exec"), names)
    return names["f"], names["C"]


def test_what_has_no_address(module):
    cases = {
        "is a lambda": [lambda generated: 1, module.shorter],
        "is defined in a function": [module.outer()],
        "is in the class Holder": [module.Holder.method],
        "is an object of partial": [functools.partial(module.letters)],
        "is in no file": [len, int, cell_of_a_notebook()[0]],
        # A class of a cell: whether the process's main program is a file depends on who started the tests.
        "was changed since|is in no file": [cell_of_a_notebook()[1]],
    }
    for reason, functions in cases.items():
        for function in functions:
            with pytest.raises(harness.ConfigError, match=reason) as error:
                code_reference("compare.metrics", function)
            assert "store=False" in str(error.value) or reason.startswith("was changed")
    with pytest.raises(harness.ConfigError, match=r"compare.metrics=.*is a lambda"):
        harness.check(compare={"metrics": [lambda generated: 1]}, **SMALL)


def test_a_file_that_was_changed(module, elsewhere):
    file = elsewhere / f"{module.__name__}.py"
    file.write_text("import dataclasses, functools\n\n\n# Moved down.\n" + METRIC)
    assert code_reference("k", module.letters).endswith(":letters")
    assert code_reference("k", module.Holder).endswith(":Holder")
    file.write_text(
        "import dataclasses, functools\n"
        + METRIC.replace("len(generated.output)", "2").replace("(self): ...", "(self): return 2")
    )
    with pytest.raises(harness.ConfigError, match="was changed since it was imported"):
        code_reference("k", module.letters)
    with pytest.raises(harness.ConfigError, match="was changed since it was imported"):
        code_reference("k", module.Holder)


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


LOOP = """
def loop(model, prompts, max_new_tokens, seeds, settings):
    return [[7, 8, 9] for _ in prompts]


class Only:
    def __init__(self, token): self.token = token
    def __call__(self, input_ids, scores):
        scores = scores - 1000
        scores[:, self.token] += 2000
        return scores
"""


def test_a_loop_and_a_processor_of_ones_own(elsewhere):
    (elsewhere / "own_decoding.py").write_text(LOOP)
    from own_decoding import Only, loop

    cases = [
        {"decoding": "greedy", "decoding.generate": loop},
        {"decoding": "greedy", "decoding.processors": [{"path": Only, "token": 11}]},
    ]
    result = harness.sweep(cases=cases, **TINY)
    result.raise_for_failures()
    own, only = (point.table("tokens")["token_id"] for point in result.points.values())
    assert own == [7, 8, 9] * 2
    assert only == [11] * 8
    assert result[0].config()["requested"]["decoding"]["generate"] == "own_decoding.py:loop"
    planned = harness.plan("decoding.generate=own_decoding.py:loop", decoding="greedy", **TINY)
    assert planned.points()["point_id"] == [result[0].point_id]  # the same as typed
    del sys.modules["own_decoding"]

    def unstored(model, prompts, max_new_tokens, seeds, settings):
        return [[5] for _ in prompts]

    trial = harness.sweep(decoding={"name": "greedy", "generate": unstored}, store=False, **TINY)
    trial.raise_for_failures()
    assert trial.tokens(["token_id"])["token_id"] == [5, 5]
    with pytest.raises(harness.ConfigError, match="is defined in a function"):
        harness.sweep(decoding={"name": "greedy", "generate": unstored}, **TINY)


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
