"""Rows that share the keys and values of their prompts: the same distributions, which float64 confirms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from harness.backends.backend import Request
from harness.backends.hf import shared_prefix
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.self_test import prefix_is_right
from harness.backends.hf.shared_prefix import PromptRows, pays
from harness.backends.hf.tree import decode_tree
from harness.config.point import Engine
from harness.decoding.detokenizer import Detokenizer
from harness.progress import SILENT
from harness.prompts.prompt import Prompt

STRATEGIES: list[dict[str, Any]] = [
    {},
    {"do_sample": True, "temperature": 1.5},
    {"do_sample": True, "top_p": 0.9},
    {"repetition_penalty": 1.3, "max_new_tokens": 6},
]
LENGTHS = (40, 23, 31)


def long_prompts(loaded: Any) -> list[Prompt]:
    text = " ".join(str(number) for number in range(60))
    ids = tuple(loaded.tokenizer(text)["input_ids"])
    return [Prompt(f"p{n}", "", ids[n : n + length]) for n, length in enumerate(LENGTHS)]


def requests_of(loaded: Any, strategy_of: Any, samples: int = 3) -> list[Request]:
    strategies = [strategy_of(loaded, **fields) for fields in STRATEGIES]
    return [
        Request(prompt, sample, strategy)
        for strategy in strategies
        for prompt in long_prompts(loaded)
        for sample in range(samples)
    ]


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every call of the shared attention."""
    calls: list[int] = []
    honest = shared_prefix._attended

    def counted(queries: Any, *rest: Any) -> Any:
        calls.append(len(queries))
        return honest(queries, *rest)

    monkeypatch.setattr(shared_prefix, "_attended", counted)
    return calls


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_a_shared_prompt_changes_nothing(
    kind: str, loaded_model: Any, strategy_of: Any, attended: list[int]
) -> None:
    loaded = loaded_model(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    requests = requests_of(loaded, strategy_of)
    own = decode_tree(loaded, requests, detokenizer)
    assert not attended
    together = decode_tree(loaded, requests, detokenizer, share_prefix=True)
    # Prompts are never more rows than there are prompts.
    assert min(attended) == len(LENGTHS) < max(attended)
    assert loaded.model.config._attn_implementation == "sdpa"
    exact = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(loaded.files.folder))
    exact.load_state_dict(loaded.model.state_dict())
    exact = exact.double().eval()
    for request, sample, other in zip(requests, together, own, strict=True):
        assert sample.token_ids == other.token_ids
        ids = torch.tensor([[*request.prompt.ids, *sample.token_ids]])
        with torch.inference_mode():
            log_p = exact(ids).logits[0, len(request.prompt.ids) - 1 : -1].log_softmax(-1)
        expected = log_p.gather(1, torch.tensor(sample.token_ids)[:, None])[:, 0]
        found = torch.tensor(sample.steps.logprob, dtype=torch.float64)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_in_bf16_it_is_right_to_rounding(loaded_model: Any, strategy_of: Any) -> None:
    loaded = loaded_model("qwen2", dtype="bfloat16")
    detokenizer = Detokenizer(loaded.tokenizer)
    assert prefix_is_right(loaded, detokenizer)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_models_that_can_share_are_found(kind: str, loaded_model: Any) -> None:
    loaded = loaded_model(kind)
    assert prefix_is_right(loaded, Detokenizer(loaded.tokenizer))


def test_attention_that_is_more_than_scaled_products_is_left_to_the_model(
    loaded_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("llama")
    attention = type(loaded.model.model.layers[0].self_attn)
    honest = attention.forward

    def capped(self: Any, *args: Any, **arguments: Any) -> Any:
        return honest(self, *args, **arguments, softcap=30.0)

    monkeypatch.setattr(attention, "forward", capped)
    assert not prefix_is_right(loaded, Detokenizer(loaded.tokenizer))
    assert loaded.model.config._attn_implementation == "sdpa"


def test_layers_that_forget_are_not_shared(loaded_model: Any, strategy_of: Any, attended: list[int]) -> None:
    loaded = loaded_model("mistral")  # a sliding window
    requests = requests_of(loaded, strategy_of)
    detokenizer = Detokenizer(loaded.tokenizer)
    own = decode_tree(loaded, requests, detokenizer)
    together = decode_tree(loaded, requests, detokenizer, share_prefix=True)
    assert not attended
    assert [one.token_ids for one in together] == [one.token_ids for one in own]


def test_rows_are_found_by_their_prompts() -> None:
    found = PromptRows.of([2, 0, 2, 2, 0], 4, "cpu")
    assert found.rows.tolist() == [[1, 4, 1], [0, 0, 0], [0, 2, 3], [0, 0, 0]]
    # Row r is where its place says.
    assert found.rows.flatten()[found.places].tolist() == [0, 1, 2, 3, 4]


def test_it_pays_where_much_would_be_read_again(loaded_model: Any, strategy_of: Any) -> None:
    strategy = strategy_of(loaded_model("llama"))

    def of(length: int, samples: int) -> list[Request]:
        prompt = Prompt("p", "", tuple(range(length)))
        return [Request(prompt, sample, strategy) for sample in range(samples)]

    assert pays(of(1024, 3), "cpu")
    assert pays(of(16, 129), "cpu")
    assert not pays(of(1023, 3), "cpu")
    assert not pays(of(1024, 3), "cuda:0")
    assert not pays(of(5000, 1), "cpu"), "nothing is read twice"


def test_the_backend_shares_what_pays_once_it_is_tested(
    loaded_model: Any, strategy_of: Any, attended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("llama")
    requests = requests_of(loaded, strategy_of, samples=1)
    backend = HfBackend(loaded)
    backend.configure(Engine(threads=1))
    list(backend.generate(requests, SILENT))
    assert not attended, "these prompts are short"
    monkeypatch.setattr(shared_prefix, "_MIN_REPEATED", 20)
    answers = list(backend.generate(requests, SILENT))
    assert len(LENGTHS) in attended
    expected = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    assert [one.token_ids for one in answers] == [one.token_ids for one in expected]
