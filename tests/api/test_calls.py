"""Calls of the API: what they do, and what they leave as it was."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import textwrap

import pytest

import harness
from harness.backends.hf.target import HfTarget

from .conftest import SMALL, TINY


def state(names=None):
    """What belongs to the process; of the loggers, those of these names, or that there are."""
    known = logging.root.manager.loggerDict
    loggers = {name: known[name] for name in names or known if hasattr(known[name], "level")}
    return {
        "environment": dict(os.environ),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "folder": os.getcwd(),
        "gc": gc.get_threshold(),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "levels": {"": logging.root.level, **{name: one.level for name, one in loggers.items()}},
        "handlers": list(logging.root.handlers),
        "argv": list(sys.argv),
    }


def test_importing_it_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import harness; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()} - set(sys.stdlib_module_names)
    assert loaded == {"harness"}
    assert "harness.errors" not in done.stdout


def test_every_name_is_there_and_plan_stays_callable():
    code = textwrap.dedent("""
        import harness
        import harness.plan.plan
        from harness.plan.plan import make_plan
        assert callable(harness.plan) and harness.plan.plan.make_plan is make_plan
        assert set(harness.__all__) <= set(dir(harness))
        for name in harness.__all__: getattr(harness, name)
        try: harness.sweeep
        except AttributeError as error: print(error)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "module 'harness' has no attribute 'sweeep'\n", done.stderr


@pytest.mark.slow
def test_a_process_of_its_own_is_left_as_it_was(tmp_path):
    """From a process that has imported nothing yet, MLflow included, in a thread and in a running loop."""
    code = textwrap.dedent(f"""
        import asyncio, logging, os, signal, sys, threading, gc
        def state():
            signals = [signal.getsignal(number) for number in signal.valid_signals()]
            root = logging.root
            return dict(os.environ), signals, os.getcwd(), gc.get_threshold(), list(root.handlers), root.level
        handler = logging.StreamHandler(sys.stdout)
        logging.basicConfig(level=logging.ERROR, handlers=[handler])
        before = state()
        import harness
        keys = {{**{TINY!r}, "tracking": "mlflow"}}
        first = harness.sweep(decoding="greedy", **keys)
        assert state() == before, [pair for pair in zip(state(), before) if pair[0] != pair[1]]
        found = []
        thread = threading.Thread(target=lambda: found.append(harness.sweep(decoding="greedy", **keys)))
        thread.start(); thread.join()
        async def inside():
            return harness.sweep(decoding="top_p", **keys)
        found.append(asyncio.run(inside()))
        assert state() == before
        statuses = [[point.status for point in one.points.values()] for one in (first, *found)]
        assert statuses == [["done"], ["reused"], ["done"]]
        assert os.listdir() == []
    """)
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == ""


def test_in_this_process_too(capsys):
    before = state()
    names = list(logging.root.manager.loggerDict)
    harness.sweep(decoding="greedy", **TINY)
    assert state(names) == before
    assert capsys.readouterr() == ("", "")
    with pytest.raises(harness.ConfigError):
        harness.sweep(decoding="gredy")
    assert state(names) == before
    assert capsys.readouterr() == ("", "")


def test_threads_take_turns_and_async_programs_can_wait():
    def one(seed):
        keys = {**TINY, "generation": {"max_new_tokens": 4, "seed": seed}}
        result = harness.sweep(decoding="top_p", **keys)
        return [point.status for point in result.points.values()]

    async def together():
        return await asyncio.gather(*(asyncio.to_thread(one, seed) for seed in (1, 2)))

    streams = sys.stdout, sys.stderr
    assert asyncio.run(together()) == [["done"], ["done"]]
    assert (sys.stdout, sys.stderr) == streams


def test_all_mistakes_in_one_exception(outputs):
    with pytest.raises(harness.ConfigError) as error:
        harness.sweep(modle="x", decoding="gredy", **{"generation.seed": -1})
    keys = [mistake.key for mistake in error.value.mistakes]
    assert keys == ["modle=x", "decoding=gredy"] or keys == ["modle=x", "decoding=gredy", "generation.seed"]
    for call in (harness.check, harness.plan, harness.sweep):
        with pytest.raises(harness.ConfigError, match="must be"):
            call(model="fable_tiny", generation={"seed": -1, "max_new_tokens": 0})
    with pytest.raises(harness.ConfigError, match="a flag of the command line"):
        harness.sweep("-m")
    assert not outputs.exists()


def test_what_has_no_effect_is_a_warning():
    with pytest.warns(harness.HarnessWarning, match="no effect") as found:
        harness.check(["decoding=greedy"], **{**TINY, "decoding": "top_p"})
    assert found[0].filename == __file__


def test_a_failed_point_is_in_the_result(elsewhere):
    (elsewhere / "broken.py").write_text("def broken(ids, logits):\n    raise ValueError('no luck <b>')\n")
    from broken import broken

    result = harness.sweep(
        cases=[{"decoding": "greedy"}, {"decoding": "top_p", "decoding.processors": [broken]}],
        **TINY,
    )
    (failed,) = result.failed.values()
    assert "no luck <b>" in failed.error
    assert "no luck &lt;b&gt;" in result._repr_html_()
    with pytest.raises(harness.SweepFailedError) as error:
        result.raise_for_failures()
    assert list(error.value.failed) == [failed.label]
    with pytest.raises(harness.HarnessError, match="it is failed"):
        failed.text()


def test_missed_expectations_are_failures():
    result = harness.sweep(decoding="greedy", expect=[{"metric": "text/output_tokens", "min": 99}], **TINY)
    assert not result.failed
    assert [one.passed for one in result.expectations] == [False]
    with pytest.raises(harness.SweepFailedError, match="expected text/output_tokens at least 99; got 4"):
        result.raise_for_failures()


def test_a_session_loads_a_model_once(monkeypatch):
    opened, closed = [], []
    honest = HfTarget.open

    def counted(self, progress):
        backend = honest(self, progress)
        opened.append(self.model.name)
        close = backend.close
        monkeypatch.setattr(backend, "close", lambda: (closed.append(self.model.name), close()))
        return backend

    monkeypatch.setattr(HfTarget, "open", counted)

    def run(model, seed):
        keys = {**TINY, "model": model, "generation": {"max_new_tokens": 4, "seed": seed}}
        harness.sweep(decoding="top_p", **keys)

    run("fable_tiny", 0)
    assert (opened, closed) == (["fable_tiny"], ["fable_tiny"])
    del opened[:], closed[:]
    with harness.session(keep=1) as session:
        for seed in (1, 2):
            run("fable_tiny", seed)
        texts = harness.generate(
            "Once", model="fable_tiny", decoding="top_p", generation={"max_new_tokens": 4}
        )
        assert (opened, closed, session.loads) == (["fable_tiny"], [], 1)
        run("fable_small", 1)
        assert (opened, closed) == (["fable_tiny", "fable_small"], ["fable_tiny"])
        run("fable_small", 2)
        assert len(texts) == 1
    assert closed == ["fable_tiny", "fable_small"]
    run("fable_tiny", 3)
    assert (len(opened), len(closed)) == (3, 3)
    with pytest.raises(harness.ConfigError, match="keep=0"):
        harness.session(keep=0)


def test_a_session_gives_the_samples_of_a_model_loaded_anew():
    def texts(seed, **keys):
        found = harness.sweep(
            decoding=["top_p", "beam"], **{**TINY, "generation": {"max_new_tokens": 8, "seed": seed}}, **keys
        )
        return found.generations(["output", "mean_logprob"]).rows()

    with harness.session():
        texts(5, store=False)
        kept = texts(6, store=False)
    assert kept == texts(6, store=False)


def test_generate_returns_what_a_sweep_stores(swept):
    keys = {"model": "fable_tiny", "prompts": "storytelling", "generation": {"max_new_tokens": 12}}
    (text,) = harness.generate(prompt_id="stormy", decoding="greedy", **keys)
    stored = swept.text("fable_tiny/none/greedy", "stormy")
    assert (text.prompt, text.output, text.facts["finish_reason"]) == (stored.prompt, stored.output, "length")
    assert text.tokens["token_id"] == stored.tokens["token_id"]
    assert text.tokens["top_tokens"] == stored.tokens["top_tokens"]
    with pytest.raises(harness.ConfigError, match="must be given"):
        harness.generate(decoding="greedy")


def test_inspect_and_replay(swept):
    found = harness.inspect("It was a dark and stormy", model="fable_tiny", steps=3, top_k=4)
    stored = swept.text("fable_tiny/none/greedy", "stormy")
    assert [step.chosen.id for step in found.steps] == stored.tokens["token_id"][:3]
    assert len(found.candidates()) == 12
    assert len(found.tokens()) == stored.facts["prompt_tokens"]
    changed = harness.replay(swept["fable_tiny/none/greedy"], decoding={"name": "top_k", "top_k": 1})
    assert (changed.summary["samples"], changed.summary["same"]) == (4, 4)
    assert changed.samples()["prompt_id"] == swept["fable_tiny/none/greedy"].table()["prompt_id"]
    with pytest.raises(harness.ConfigError, match="changes the decoding only"):
        harness.replay(swept[0], model="gpt2")


def test_plan_check_and_load(swept):
    outputs = swept.folder.parent.parent
    keys = {name: value for name, value in SMALL.items() if name != "quiet"}
    planned = harness.plan(decoding=["greedy", "min_p"], outputs=outputs, **keys)
    assert planned.points()["to_do"] == ["", "decode"]
    assert (planned.complete, len(planned)) == (1, 2)
    assert "1 model load and at most 48 tokens to come" in str(planned)
    checked = harness.check(decoding=["greedy", "min_p"], **keys)
    assert (checked.points, checked.groups, checked.prompts) == (
        ("fable_tiny/none/greedy", "fable_tiny/none/min_p"),
        1,
        4,
    )
    again = harness.load(swept.folder.name, outputs=outputs)
    assert list(again.points) == list(swept.points)
    with pytest.raises(harness.ConfigError, match="no sweep was run yet"):
        harness.load()
