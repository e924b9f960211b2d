"""Processors of one's own: alone = in company = in any batch = stock `generate` with an object a prompt."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from harness.backends.backend import Failure, Request
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.stock_generate import stock_generate
from harness.backends.hf.tree import decode_tree
from harness.backends.steps.strategy_processors import strategy_processors
from harness.config.decoding import Decoding
from harness.config.point import Timing
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.own_checks import planned_processors
from harness.decoding.own_processors import own_processors
from harness.decoding.strategy import Strategy
from harness.decoding.texts import Texts
from harness.errors import HarnessError
from harness.progress import Silent

FILE = str(Path(__file__).with_name("own_samples.py"))
ENTRIES: dict[str, list[Any]] = {
    "state": [f"{FILE}:Counting"],
    "arguments": [{"path": f"{FILE}:Counting", "every": 11, "by": 9.0}],
    "in place": [f"{FILE}:Echo"],
    "not copyable": [f"{FILE}:Uncopyable"],
    "function": [{"path": f"{FILE}:no_last", "times": 2}],
    "after": [{"path": f"{FILE}:Counting", "place": "after", "by": 9.0, "every": 3}],
    "several": [f"{FILE}:Echo", f"{FILE}:no_last", {"path": f"{FILE}:Counting", "place": "after"}],
}
FIELDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
    "sampled": {"do_sample": True, "temperature": 1.3, "top_p": 0.95},
    "mirostat": {"do_sample": True, "mirostat_mode": 2},
    "adaptive": {"do_sample": True, "min_p": 0.01, "adaptive_target": 0.3},
}
CASES = [(entry, fields) for entry in ENTRIES for fields in FIELDS if fields != "penalties"]


@pytest.fixture
def own(strategy_of: Any) -> Any:
    """`own(loaded, entries, top_p=0.9)`: a strategy with processors, as a plan makes it."""

    def strategy(loaded: Any, entries: list[Any], **fields: Any) -> Strategy:
        plain = strategy_of(loaded, **{"max_new_tokens": 12, **fields})
        planned = planned_processors(entries)
        return dataclasses.replace(plain, effective={**plain.effective, **planned.fields})

    return strategy


def stock(loaded: Any, ids: tuple[int, ...], objects: list[Any], fields: dict[str, Any]) -> tuple[int, ...]:
    """What `generate` makes of one prompt, with objects of its own."""
    from transformers import LogitsProcessorList

    eos = loaded.tokenizer.eos_token_id
    output = loaded.model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=12,
        eos_token_id=eos,
        pad_token_id=loaded.tokenizer.pad_token_id,
        logits_processor=LogitsProcessorList(objects),
        **fields,
    )
    generated = output[0, len(ids) :].tolist()
    return tuple(generated[: generated.index(eos) + 1] if eos in generated else generated)


def objects_of(name: str, loaded: Any) -> list[Any]:
    """The same processors, made by hand."""
    import runpy

    theirs = runpy.run_path(FILE)
    tokenizer = loaded.tokenizer
    return {
        "state": lambda: [theirs["Counting"]()],
        "arguments": lambda: [theirs["Counting"](every=11, by=9.0)],
        "in place": lambda: [theirs["Echo"](tokenizer, 1)],
        "not copyable": lambda: [theirs["Uncopyable"]()],
        "function": lambda: [lambda ids, scores: theirs["no_last"](ids, scores, times=2)],
        "after": lambda: [theirs["Counting"](by=9.0, every=3)],
        "several": lambda: [theirs["Echo"](tokenizer, 1), theirs["no_last"], theirs["Counting"]()],
    }[name]()


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("fields", ["greedy", "penalties"])
@pytest.mark.parametrize("name", ENTRIES)
def test_greedy_is_stock_generate_one_prompt_at_a_time(
    name: str, fields: str, kind: str, loaded_model: Any, prompts_of: Any, own: Any
) -> None:
    loaded = loaded_model(kind)
    prompts = prompts_of(loaded)
    assert len({len(prompt.ids) for prompt in prompts}) > 2, "the batch is meant to be ragged"
    strategy = own(loaded, ENTRIES[name], **FIELDS[fields])
    samples = decode_tree(loaded, [Request(p, 0, strategy) for p in prompts], Detokenizer(loaded.tokenizer))
    expected = [stock(loaded, p.ids, objects_of(name, loaded), FIELDS[fields]) for p in prompts]
    assert [sample.token_ids for sample in samples] == expected
    plain = [stock(loaded, p.ids, [], FIELDS[fields]) for p in prompts]
    assert plain != expected or (name, fields) == ("function", "penalties"), "it changes nothing"


@pytest.fixture(scope="module")
def together() -> dict[tuple[str, str], Any]:
    return {}


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("name", "fields"), CASES)
def test_alone_and_in_any_batch_it_gives_the_same(
    name: str, fields: str, loaded_model: Any, prompts_of: Any, own: Any, together: dict[Any, Any]
) -> None:
    loaded = loaded_model("llama")
    detokenizer = Detokenizer(loaded.tokenizer)
    count = 3 if FIELDS[fields].get("do_sample") else 1

    def requests_of(case: tuple[str, str]) -> list[Request]:
        entry, chosen = case
        strategy = own(loaded, ENTRIES[entry], max_new_tokens=8, **FIELDS[chosen])
        samples = 3 if FIELDS[chosen].get("do_sample") else 1
        return [
            Request(prompt, sample, strategy) for prompt in prompts_of(loaded) for sample in range(samples)
        ]

    if not together:
        everything = {case: requests_of(case) for case in CASES}
        samples = iter(decode_tree(loaded, list(chain(*everything.values())), detokenizer))
        together.update({case: [next(samples) for _ in some] for case, some in everything.items()})
    expected = together[name, fields]
    requests = requests_of((name, fields))
    alone = decode_tree(loaded, requests, detokenizer)
    apart = decode_tree(loaded, requests, detokenizer, share=False)
    ones = [decode_tree(loaded, [request], detokenizer)[0] for request in requests]
    by_three = [requests[i : i + 3] for i in range(0, len(requests), 3)]
    threes = [sample for some in by_three for sample in decode_tree(loaded, some, detokenizer)]
    by_stock = stock_generate(loaded, requests, detokenizer)
    for samples in (alone, apart, ones, threes, by_stock):
        assert [s.token_ids for s in samples] == [s.token_ids for s in expected]
    assert count == 1 or len({s.token_ids for s in expected}) > len(expected) / 3, "texts are meant to part"
    for sample, other in zip(expected, ones, strict=True):
        assert np.abs(sample.steps.warped_logprob - other.steps.warped_logprob).max() < 1e-3


def test_a_copy_and_a_replay_go_on_from_the_same_state(loaded_model: Any, own: Any) -> None:
    """Three texts part after two steps; by hand, each has an object that saw exactly its own steps."""
    from tests.backends.hf import own_samples  # type: ignore[import-not-found]

    loaded = loaded_model("llama")
    torch.manual_seed(0)
    for name in ("Counting", "Uncopyable"):
        effective = own(loaded, [f"{FILE}:{name}"], do_sample=True).effective
        found = own_processors(
            effective, "before", model=loaded.model, tokenizer=loaded.tokenizer, device="cpu"
        )
        steps = [torch.randn(1, 50), torch.randn(1, 50), torch.randn(3, 50), torch.randn(2, 50)]
        ids = [[[0, 5, 6]], [[0, 5, 6, 1]], [[0, 5, 6, 1, t] for t in (2, 3, 4)]]
        ids.append([[0, 5, 6, 1, 4, 9], [0, 5, 6, 1, 2, 9]])  # one ends, the others change places
        paths = {2: [0, 0, 0, 1], 4: [0, 0, 2, 0]}
        got = [found(Texts(torch.tensor(i), [2] * len(i), 3), s) for i, s in zip(ids, steps, strict=True)]
        for last, rows in paths.items():
            by_hand = getattr(own_samples, name)()
            for step, row in enumerate(rows):
                text = next(one for one in ids[step] if last in one or len(one) < 5)
                wanted = by_hand(torch.tensor([text[1:]]), steps[step][row : row + 1].clone())
                assert torch.equal(got[step][row : row + 1], wanted)


def test_after_the_samplers_is_what_is_drawn_from(loaded_model: Any, prompts_of: Any, own: Any) -> None:
    """Of the three tokens that top_k leaves only the least likely is taken, with probability 1."""
    loaded = loaded_model("llama")
    entries = [{"path": f"{FILE}:second", "place": "after"}]
    strategy = own(loaded, entries, do_sample=True, top_k=3)
    prompts = prompts_of(loaded)
    samples = decode_tree(loaded, [Request(p, 0, strategy) for p in prompts], Detokenizer(loaded.tokenizer))
    for sample in samples:
        assert set(sample.steps.rank.tolist()) == {3}
        assert np.abs(sample.steps.warped_logprob).max() < 1e-6
        assert set(sample.steps.kept.tolist()) == {1}


def test_draws_follow_the_distribution_after_it(loaded_model: Any, prompts_of: Any, own: Any) -> None:
    loaded = loaded_model("llama")
    prompt = prompts_of(loaded)[0]
    entries = [f"{FILE}:no_last", {"path": f"{FILE}:Counting", "place": "after", "by": 2.0, "every": 5}]
    strategy = own(loaded, entries, do_sample=True, max_new_tokens=1, temperature=0.7)
    requests = [Request(prompt, sample, strategy) for sample in range(3000)]
    samples = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    with torch.no_grad():
        logits = loaded.model(torch.tensor([prompt.ids])).logits[0, -1].double() / 0.7
    logits[prompt.ids[-1]] = -torch.inf
    logits[5] += 2.0
    p = logits.softmax(-1)
    chosen = Counter(sample.token_ids[0] for sample in samples)
    likely = [token for token in range(len(p)) if 3000 * p[token] >= 10]
    observed = [chosen[token] for token in likely]
    wanted = [3000 * float(p[token]) for token in likely]
    observed.append(3000 - sum(observed))
    wanted.append(3000 - sum(wanted))
    assert prompt.ids[-1] not in chosen
    assert chisquare(observed, np.array(wanted) * 3000 / sum(wanted)).pvalue > 1e-4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "nothing returned NoneType, not scores of shape (1, "),
        ("narrow", "narrow returned shape ("),
        ("empty", "leaves no token, or returns NaN or inf"),
        ("fails", "fails raised KeyError: 'my mistake' at token 0"),
        ("Unmade", "Unmade cannot be made: ValueError: no dictionary"),
        ("OnlyLater", "an object of OnlyLater cannot be copied where texts part"),
    ],
)
def test_what_goes_wrong_is_one_line(
    name: str, message: str, loaded_model: Any, prompts_of: Any, own: Any
) -> None:
    from harness.backends.steps.strategy_error import StrategyError

    loaded = loaded_model("llama")
    strategy = own(loaded, [f"{FILE}:{name}"], do_sample=True)
    requests = [Request(prompts_of(loaded)[0], sample, strategy) for sample in range(8)]
    with pytest.raises(StrategyError) as caught:
        decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    assert isinstance(caught.value.cause, HarnessError)
    assert str(caught.value).startswith(f"decoding.processors={FILE}:{name}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_text_out_of_nowhere_is_refused(loaded_model: Any, own: Any) -> None:
    loaded = loaded_model("llama")
    processors = strategy_processors(loaded, own(loaded, [f"{FILE}:Counting"]))
    with pytest.raises(HarnessError, match="whose earlier steps it has not seen"):
        processors(Texts(torch.tensor([[3, 4, 5]]), [2], 2), torch.zeros(1, 50))


def test_one_strategys_failure_leaves_the_others(loaded_model: Any, prompts_of: Any, own: Any) -> None:
    from harness.backends.hf.backend import HfBackend

    loaded = loaded_model("llama")
    prompts = prompts_of(loaded)
    bad, good = own(loaded, [f"{FILE}:fails"]), own(loaded, [f"{FILE}:Counting"])
    requests = [Request(prompt, 0, one) for one in (bad, good) for prompt in prompts]
    answers = list(HfBackend(loaded).generate(requests, Silent()))
    assert [isinstance(answer, Failure) for answer in answers] == [True] * len(prompts) + [False] * len(
        prompts
    )


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_latency_pass_runs_it(place: str, loaded_model: Any, prompts_of: Any, own: Any) -> None:
    loaded = loaded_model("llama")
    strategy = own(loaded, [{"path": f"{FILE}:Counting", "place": place}], do_sample=True, top_k=5)
    timing = Timing(name="t", prompts=2, repeats=2, warmup=0, batch_size=2, new_tokens=5)
    found = time_strategy(
        loaded, [Request(p, 0, strategy) for p in prompts_of(loaded)], timing, context_length=None
    )
    assert [len(one.itl_ms) for one in found] == [4, 4]


def test_a_walk_may_go_back_and_branch(loaded_model: Any, prompts_of: Any) -> None:
    """Whatever was asked before, an object has seen each token of the prefix once."""
    from harness.cli.token_walk import TokenWalk

    loaded = loaded_model("llama")
    prompt = prompts_of(loaded)[0]
    walk = TokenWalk(loaded, prompt)
    decoding = Decoding(name="x", processors=({"path": f"{FILE}:Counting", "every": 7, "by": 6.0},))
    for tokens in ((), (4, 9), (4,), (4, 9, 5), (6, 6), ()):
        wanted = walk.logits(tokens).clone()
        wanted[:, 7 * (len(tokens) + 1) % wanted.shape[1]] += 6.0
        assert torch.allclose(walk.warped(tokens, decoding), wanted.log_softmax(-1), atol=1e-6)
