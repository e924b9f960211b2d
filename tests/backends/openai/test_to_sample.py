"""Answers of each format become rows: what was told is there, everything else is None."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from harness.backends.backend import Request
from harness.backends.openai.dialects import LLAMA_CPP, OPENAI, VLLM_SERVER
from harness.backends.openai.server_answer import Answer, AnswerBuilder, AnswerError, read_steps
from harness.backends.openai.spending import BudgetError, Price, Spending
from harness.backends.openai.timed import timed_repetition
from harness.backends.openai.to_sample import steps_of, to_sample
from harness.decoding.strategy import Strategy
from harness.prompts.prompt import Prompt
from harness.store.records import Sample

STRATEGY = Strategy({"do_sample": True}, 8, 0, (), (-1,), 0, top_k=2)
REQUEST = Request(Prompt("one", "first", ()), 0, STRATEGY)


def entry(
    text: str, logprob: float, token_id: int | None = None, octets: bytes | None = None
) -> dict[str, Any]:
    found: dict[str, Any] = {"token": text, "logprob": logprob}
    found |= {} if token_id is None else {"id": token_id}
    return found | {"bytes": list(text.encode() if octets is None else octets)}


def llama_cpp(tokens: list[dict[str, Any]], text: str, finish: str = "stop") -> Answer:
    builder = AnswerBuilder(100.0)
    for i, one in enumerate(tokens):
        logprobs = {"content": [{**one, "top_logprobs": [one, entry(" x", -9.0, 3)]}]}
        builder.add({"choices": [{"text": "", "logprobs": logprobs}]}, 0.1 * i)
    builder.add(
        {
            "choices": [{"text": text, "finish_reason": finish}],
            "usage": {"completion_tokens": len(tokens) or 9},
        },
        1.0,
    )
    return builder.answer(101.0)


def sample(answer: Answer, stops: tuple[str, ...] = (), dialect: Any = LLAMA_CPP) -> Sample:
    request = replace(REQUEST, strategy=replace(STRATEGY, stop_strings=stops))
    return to_sample(request, answer, dialect, 5, None)


def test_the_token_that_completes_a_character_has_it() -> None:
    fox = "🦊".encode()
    tokens = [entry("a", -1.0, 1), entry("?", -1.0, 2, fox[:2]), entry("?", -1.0, 4, fox[2:])]
    found = sample(llama_cpp(tokens, "a🦊", "length"))
    assert found.steps is not None
    assert found.steps.token == ("a", "", "🦊")
    assert found.steps.token_id is not None
    assert found.steps.token_id.tolist() == [1, 2, 4]
    assert found.steps.rank is not None
    assert found.steps.rank.tolist() == [1, 1, 1]
    assert (found.output, found.finish_reason, found.seed) == ("a🦊", "length", 5)
    assert (found.steps.entropy, found.steps.warped_logprob, found.steps.kept) == (None, None, None)


def test_what_ended_an_answer() -> None:
    text = [entry("a", -1.0, 1), entry(" b", -1.0, 2)]
    eos = sample(llama_cpp([*text, entry("", -1.0, 0)], "a b"))
    assert (eos.finish_reason, eos.output, eos.output_tokens) == ("eos", "a b", 3)
    either = sample(llama_cpp([*text, entry("", -1.0, 0)], "a b"), stops=("zzz",))
    assert (either.finish_reason, either.output) == ("stop", "a b"), "zzz may have been cut off"
    stop = sample(llama_cpp([*text, entry(" END", -1.0, 7)], "a b"), stops=("END",))
    assert (stop.finish_reason, stop.output) == ("stop_string", "a b END"), "stop strings are kept"
    assert sample(llama_cpp([], "a b"), stops=("END",)).finish_reason == "stop", "it does not tell which"
    assert sample(llama_cpp([], "a b")).finish_reason == "eos"
    for reason, expected in ((None, "eos"), ("END", "stop_string"), (2, "eos")):
        answer = replace(llama_cpp([], "a b"), stop_reason=reason)
        assert sample(answer, ("END",), VLLM_SERVER).finish_reason == expected
    marked = sample(llama_cpp([*text, entry("<|im_end|>", -1.0, 0)], "a b"))
    assert (marked.output, marked.steps and marked.steps.token[-1]) == ("a b", "")  # type: ignore[index]


def test_tokens_that_do_not_join_to_the_text_are_left_out() -> None:
    answer = llama_cpp([entry("a", -1.0, 1)], "something else", "length")
    found = sample(answer)
    assert (found.steps, found.output, found.output_tokens) == (None, "something else", 1)
    fewer = replace(llama_cpp([entry("a", -1.0, 1)], "a", "length"), usage={"completion_tokens": 4})
    assert (sample(fewer).steps, sample(fewer).output_tokens) == (None, 4), "of some tokens it told nothing"
    thought = {"completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 3}}
    assert sample(replace(fewer, usage=thought)).steps is not None


def test_a_rank_beyond_the_alternatives_is_unknown() -> None:
    one = {**entry("a", -5.0), "top_logprobs": [entry("b", -1.0), entry("c", -2.0)]}
    two = {**entry("d", -1.5), "top_logprobs": [entry("b", -1.0), entry("c", -2.0), entry("d", -1.5)]}
    builder = AnswerBuilder(0.0)
    builder.add(
        {"choices": [{"text": "ad", "logprobs": {"content": [one, two]}, "finish_reason": "length"}]}, 0.1
    )
    steps = steps_of(builder.answer(1.0), 2)
    assert steps is not None
    assert steps.rank is not None
    assert steps.rank.tolist() == [None, 2]
    assert steps.top_ids is steps.token_id is None
    assert steps.top_tokens == (("b", "c"), ("b", "d"))


@pytest.mark.parametrize("top_k", [0, 2])
def test_the_chosen_token_beyond_the_alternatives_has_no_rank(top_k: int) -> None:
    """vLLM asked for 2 returns 3 where the chosen one is the 40th, and asked for none returns that one."""
    tops = [{"b": -1.0, "c": -2.0}, {"d": -7.0}]
    top = {**(tops[0] if top_k else {}), **tops[1]}
    logprobs = {"tokens": ["d"], "token_logprobs": [-7.0], "top_logprobs": [top]}
    builder = AnswerBuilder(0.0)
    builder.add({"choices": [{"text": "d", "logprobs": logprobs, "finish_reason": "length"}]}, 0.1)
    steps = steps_of(builder.answer(1.0), top_k)
    assert steps is not None
    assert steps.rank is None
    assert steps.top_tokens == ((("b", "c"),) if top_k else None)


def test_vllm_tells_ids_apart() -> None:
    builder = AnswerBuilder(0.0)
    legacy = {
        "tokens": ["a", "b"],
        "token_logprobs": [-1.0, -2.0],
        "top_logprobs": [{"a": -1.0}, {"b": -2.0}],
    }
    builder.add({"choices": [{"text": "ab", "logprobs": legacy, "token_ids": [11, 12]}]}, 0.1)
    builder.add({"choices": [{"text": "", "finish_reason": "length"}]}, 0.2)
    found = sample(builder.answer(1.0), dialect=VLLM_SERVER)
    assert found.steps is not None
    assert found.steps.token_id is not None
    assert found.steps.token_id.tolist() == [11, 12]


def test_odd_logprobs_are_none() -> None:
    for odd in (None, [], {}, {"content": None}, {"tokens": ["a"], "token_logprobs": []}):
        assert read_steps(odd) == []
    builder = AnswerBuilder(0.0)
    builder.done = True
    with pytest.raises(AnswerError, match="no choices"):
        builder.answer(1.0)


def test_an_empty_answer_that_ended_is_one() -> None:
    builder = AnswerBuilder(0.0)
    builder.add({"choices": [{"text": "", "finish_reason": "stop"}]}, 0.1)
    assert sample(builder.answer(1.0), dialect=OPENAI).output == ""


def test_an_answer_survives_the_journal() -> None:
    answer = llama_cpp([entry("a", -1.0, 1), entry("é", -2.0, 2)], "aé", "length")
    assert Answer.from_json(json.loads(json.dumps(answer.to_json()))) == answer


def test_parts_are_not_tokens() -> None:
    answer = llama_cpp([], "a b c d", "length")
    several = replace(answer, chunks=(0.1, 0.3, 0.6), usage={"completion_tokens": 9})
    found = timed_repetition("one", 0, several)
    assert (found.itl_ms, found.output_tokens) == ((), 9)
    assert (found.ttft_ms, found.decode_ms) == (pytest.approx(100), pytest.approx(500))
    single = timed_repetition("one", 0, replace(several, usage={"completion_tokens": 3}))
    assert single.itl_ms == (pytest.approx(200), pytest.approx(300))
    unknown = timed_repetition("one", 0, replace(several, usage={}))
    assert (unknown.itl_ms, unknown.output_tokens) == ((), None)


def test_a_budget_is_never_passed() -> None:
    price = Price(1e-6, 2e-6)
    prompt = Prompt("one", "x" * 100, ())
    most = price.at_most(prompt, 50)
    assert most >= price.of({"prompt_tokens": 100, "completion_tokens": 50})  # type: ignore[operator]
    spending = Spending(3 * most)
    for _ in range(3):
        spending.reserve(most)
    with pytest.raises(BudgetError, match=r"backend.budget_usd="):
        spending.reserve(most)
    spending.settle(most, most / 2)
    with pytest.raises(BudgetError):
        spending.reserve(most)
    spending.settle(most, most / 2)
    spending.reserve(most)
