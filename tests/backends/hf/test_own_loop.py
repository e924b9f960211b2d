"""A decoding loop of one's own: what it is called with, what is recorded of it, and its mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.backend import Request
from harness.backends.hf.decoding_method import StrategyError
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.methods import method_of
from harness.backends.hf.own_loop import own_loop
from harness.backends.hf.tree import decode_tree
from harness.cli.main import main
from harness.config.point import Timing
from harness.config.processor_entries import LoopEntry
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.own_checks import planned_loop
from harness.decoding.own_code import load_code
from harness.decoding.strategy import Strategy
from harness.errors import ConfigError, HarnessError
from harness.store.stored_point import StoredPoint

SOURCE = '''
import torch

CALLS = []

def warm_start(model, prompts, max_new_tokens, seeds, settings, hot=3, warmth=2.0):
    """Draws some tokens hot, then takes the likeliest."""
    outputs = []
    for ids, seed in zip(prompts, seeds):
        chance, new = torch.Generator().manual_seed(seed), []
        while len(new) < max_new_tokens and not set(new) & set(settings["eos_token_id"]):
            logits = model(torch.tensor([ids + new], device=model.device)).logits[0, -1].float().cpu()
            p = (logits / warmth).softmax(-1)
            token = torch.multinomial(p, 1, generator=chance) if len(new) < hot else logits.argmax()
            new.append(int(token))
        outputs.append(new)
    return outputs

def noted(model, prompts, max_new_tokens, seeds, settings, tokenizer, device, **more):
    CALLS.append((prompts, max_new_tokens, seeds, settings, device, more))
    return [(torch.tensor(tokenizer(" fox")["input_ids"][-1:] * 2), -1.5) for _ in prompts]

def wrong(model, prompts, max_new_tokens, seeds, settings, value):
    return value if value != "prompt" else [ids + [5] * max_new_tokens for ids in prompts]

def fails(model, prompts, max_new_tokens, seeds, settings):
    raise IndexError("the third\\nthing")

def few(model, prompts):
    return []

def unseeded(model, prompts, max_new_tokens, seeds, settings):
    return [[int(torch.randint(5, 9, (1,)))] for _ in prompts]

class Loop:
    pass
'''


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loops.py").write_text(SOURCE)


@pytest.fixture
def looping(strategy_of: Any) -> Callable[..., Strategy]:
    """`looping(loaded, "warm_start", hot=0, do_sample=True)`: a strategy; arguments are the loop's own."""

    def strategy(loaded: Any, name: str, fields: dict[str, Any] | None = None, **arguments: Any) -> Strategy:
        entry = {"path": f"loops.py:{name}", **arguments}
        found = strategy_of(loaded, generate=entry, **(fields or {}))
        return replace(found, effective={**found.effective, **planned_loop(entry).fields})

    return strategy


def requests_of(strategy: Strategy, prompts: list[Any], samples: int = 1) -> list[Request]:
    return [Request(prompt, sample, strategy) for prompt in prompts for sample in range(samples)]


def test_a_greedy_loop_is_greedy_decoding_in_all_that_is_recorded(
    loaded_model: Any, prompts_of: Any, strategy_of: Any, looping: Any
) -> None:
    for kind in ("fable_tiny", "gpt2"):
        loaded = loaded_model(kind)
        detokenizer = Detokenizer(loaded.tokenizer)
        plain = strategy_of(loaded, max_new_tokens=8, stop_strings=("x",))
        expected = decode_tree(loaded, requests_of(plain, prompts_of(loaded)), detokenizer)
        strategy = looping(loaded, "warm_start", {"max_new_tokens": 8, "stop_strings": ("x",)}, hot=0)
        assert method_of(strategy.effective).name == "own_loop"
        found = own_loop(loaded, requests_of(strategy, prompts_of(loaded)), detokenizer)
        for one, other in zip(found, expected, strict=True):
            assert (one.token_ids, one.output, one.finish_reason) == (
                other.token_ids,
                other.output,
                other.finish_reason,
            )
            for column in ("logprob", "warped_logprob", "entropy"):
                values = getattr(one.steps, column), getattr(other.steps, column)
                assert np.allclose(*values, atol=1e-4), column


def test_a_drawing_loop_has_a_seed_for_each_sample(loaded_model: Any, prompts_of: Any, looping: Any) -> None:
    loaded = loaded_model("fable_tiny")
    detokenizer = Detokenizer(loaded.tokenizer)
    strategy = looping(loaded, "warm_start", {"do_sample": True, "max_new_tokens": 6})
    requests = requests_of(strategy, prompts_of(loaded), 3)
    together = [sample.token_ids for sample in own_loop(loaded, requests, detokenizer)]
    assert len(set(together)) > 10
    assert [own_loop(loaded, [one], detokenizer)[0].token_ids for one in requests] == together
    other = requests_of(replace(strategy, seed=1), prompts_of(loaded), 3)
    assert [sample.token_ids for sample in own_loop(loaded, other, detokenizer)] != together
    still = looping(loaded, "warm_start", {"max_new_tokens": 6})
    zero, one = (
        own_loop(loaded, requests_of(replace(still, seed=seed), prompts_of(loaded)), detokenizer)
        for seed in (0, 1)
    )
    assert [s.token_ids for s in zero] == [s.token_ids for s in one], "nothing is drawn: no seed counts"


def test_what_it_is_called_with_and_what_it_may_return(
    loaded_model: Any, prompts_of: Any, looping: Any
) -> None:
    loaded = loaded_model("fable_small")
    fields = {"temperature": 0.7, "do_sample": True, "max_new_tokens": 5, "stop_strings": ("q",)}
    strategy = looping(loaded, "noted", fields, depth=3)
    prompts = prompts_of(loaded)
    state = torch.get_rng_state()
    found = own_loop(loaded, requests_of(strategy, prompts), Detokenizer(loaded.tokenizer))
    assert torch.equal(torch.get_rng_state(), state)
    fox = loaded.tokenizer(" fox")["input_ids"][-1]
    assert [(sample.token_ids, sample.sequence_score) for sample in found] == [((fox, fox), -1.5)] * 5
    assert {sample.finish_reason for sample in found} == {None}, "it ended by itself"
    planned = strategy.effective["generate"]
    calls = load_code(LoopEntry(planned["path"]), planned["code"]).__globals__["CALLS"]
    texts, budget, seeds, settings, device, more = calls[-1]
    assert texts == [list(prompt.ids) for prompt in prompts]
    assert (budget, len(set(seeds)), device, more) == (5, 5, "cpu", {"depth": 3})
    assert (settings["temperature"], settings["top_k"], settings["stop_strings"]) == (0.7, 0, ["q"])
    assert settings["eos_token_id"] == [loaded.tokenizer.eos_token_id]
    assert "generate" not in settings


def test_what_comes_after_the_end_is_left_out(loaded_model: Any, prompts_of: Any, looping: Any) -> None:
    loaded = loaded_model("fable_small")
    prompts, detokenizer = prompts_of(loaded)[:1], Detokenizer(loaded.tokenizer)
    word, end = loaded.tokenizer(" fox")["input_ids"][-1], loaded.tokenizer.eos_token_id
    strategy = looping(loaded, "wrong", value=[[word, end, word]])
    (sample,) = own_loop(loaded, requests_of(strategy, prompts), detokenizer)
    assert (sample.token_ids, sample.finish_reason) == ((word, end), "eos")
    strategy = looping(loaded, "wrong", {"stop_strings": ("fox",)}, value=[[word, word, word]])
    (sample,) = own_loop(loaded, requests_of(strategy, prompts), detokenizer)
    assert (sample.token_ids, sample.finish_reason) == ((word,), "stop_string")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "returned NoneType, not a list of the tokens of each prompt"),
        ([[5]], "returned 1 outputs for 2 prompts; return one of each"),
        ([[5], []], "returned no token for a prompt; return one at least"),
        ([[5], 5], "returned 5 for a prompt, not a list of token ids"),
        ([[5], [0.5]], "returned [0.5] for a prompt, not a list of token ids"),
        ([[5], [True]], "returned [True] for a prompt, not a list of token ids"),
        ([[5], [-1]], "returned the token -1, and ids are 0 to "),
        ([[5], [5] * 4], "returned 4 tokens of at most 3; stop at max_new_tokens"),
        ("prompt", "tokens of at most 3; return the new ones only, without the prompt"),
        ([([5], "good"), [5]], "returned a score that is no finite number; return (ids, score) or ids"),
    ],
    ids=repr,
)
def test_its_mistakes_are_one_line(
    value: Any, problem: str, loaded_model: Any, prompts_of: Any, looping: Any
) -> None:
    loaded = loaded_model("llama")
    strategy = looping(loaded, "wrong", {"max_new_tokens": 3}, value=value)
    with pytest.raises(HarnessError) as caught:
        own_loop(loaded, requests_of(strategy, prompts_of(loaded)[:2]), Detokenizer(loaded.tokenizer))
    assert str(caught.value).startswith("decoding.generate=loops.py:wrong: wrong returned")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_it_raises_is_the_failure_of_its_strategy(
    loaded_model: Any, prompts_of: Any, looping: Any
) -> None:
    from harness.backends.hf.decoding_method import Runtime

    loaded = loaded_model("llama")
    strategy = looping(loaded, "fails")
    runtime = Runtime(loaded, Detokenizer(loaded.tokenizer), False, lambda _: None, lambda _: None)
    with pytest.raises(StrategyError) as caught:
        method_of(strategy.effective).decode(runtime, requests_of(strategy, prompts_of(loaded)))
    line = "decoding.generate=loops.py:fails: fails raised IndexError: the third thing"
    assert str(caught.value) == line


def test_it_is_timed_as_a_whole(loaded_model: Any, prompts_of: Any, looping: Any) -> None:
    loaded = loaded_model("fable_small")
    timing = Timing(name="t", prompts=4, repeats=1, warmup=0, batch_size=2, new_tokens=5)
    requests = requests_of(looping(loaded, "warm_start"), prompts_of(loaded))
    times = time_strategy(loaded, requests, timing, context_length=None)
    assert [(one.ttft_ms, one.itl_ms, one.output_tokens) for one in times] == [(None, (), 5)] * 2
    with pytest.raises(HarnessError, match="noted returned 2 of 5 tokens where nothing ends a text, so"):
        time_strategy(
            loaded, requests_of(looping(loaded, "noted"), prompts_of(loaded)), timing, context_length=None
        )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("loops.py:warm_stat", "did you mean decoding.generate=loops.py:warm_start? ("),
        ("loop.py:warm_start", "did you mean decoding.generate=loops.py:warm_start?"),
        ("loops.py:Loop", "Loop is no function but a class; name a function"),
        ("loops.py:CALLS", "CALLS is no function but a object of type list; name a function"),
        ("loops.py:few", "few must take (model, prompts, max_new_tokens, seeds, settings)"),
        (
            "loops.py:wrong",
            "needs the argument value; give it beside the path, as in {path: loops.py:wrong, ",
        ),
        (
            {"path": "loops.py:warm_start", "warmht": 3},
            "did you mean 'decoding.generate={path: loops.py:warm_start, warmth: 3}'? (arguments: hot, w",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_when_a_sweep_is_planned(entry: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planned_loop(entry)
    assert message in str(caught.value)


def test_chance_in_its_source_is_warned_of() -> None:
    (warning,) = planned_loop("loops.py:unseeded").warnings
    assert "uses torch.randint; samples may differ from run to run, unless it is seeded" in warning


def test_through_a_sweep_and_its_content_is_the_address(outputs: Path) -> None:
    Path("mine.py").write_text(SOURCE.partition("\ndef unseeded")[0])
    small = ["model=fable_tiny", "tracking=off", "timing=off", "prompts.limit=2"]
    words = [*small, "generation.max_new_tokens=6", "generation.samples=2", "decoding.do_sample=true"]

    def rows(name: str) -> tuple[str, list[Any]]:
        assert main([f"decoding.generate=mine.py:{name}", *words]) == 0
        plan = max(outputs.glob("sweeps/*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
        (found,) = json.loads(plan.read_text())["points"]
        point = StoredPoint(outputs / "points" / found["point_id"])
        return found["point_id"], point.rows("generations")

    first, outputs_of = rows("noted")
    assert [(row["finish_reason"], row["sequence_score"]) for row in outputs_of] == [(None, -1.5)] * 4
    Path("mine.py").write_text(Path("mine.py").read_text().replace("-1.5", "-2.5"))
    second, outputs_of = rows("noted")
    assert second != first
    assert [row["sequence_score"] for row in outputs_of] == [-2.5] * 4
