"""vLLM's samples are those of transformers, token for token, and so is what is recorded of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from every_strategy import choices, plain
from small_engines import TEXTS

from harness.backends.backend import Failure, Request
from harness.backends.hf.tree import decode_tree
from harness.decoding.detokenizer import Detokenizer
from harness.progress import SILENT

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

CLOSE = 1e-3
RARE = 1e-3
"""Tokens at which rounding may decide: a near tie, or a token at the edge of what is kept."""
OF_WARPED = {"warped_logprob", "warped_entropy", "kept", "kept_mass", "top_warped_logprobs"}


@dataclass
class Compared:
    """How two backends' samples compare, token by token up to where they part."""

    texts: int = 0
    equal_texts: int = 0
    tokens: int = 0
    equal_tokens: int = 0
    edges: int = 0
    worst: dict[str, float] = field(default_factory=dict)

    def add(self, one: Any, other: Any) -> None:
        ids, expected = np.array(one.token_ids), np.array(other.token_ids)
        common = min(len(ids), len(expected))
        differ = np.flatnonzero(ids[:common] != expected[:common])
        until = int(differ[0]) if len(differ) else common
        self.texts += 1
        self.tokens += len(expected)
        self.equal_tokens += until
        if one.token_ids == other.token_ids:
            self.equal_texts += 1
            same = ("output", "finish_reason", "prompt_tokens", "output_tokens", "seed", "prompt")
            assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]
            assert one.steps.token == other.steps.token
        found, wanted = one.steps.numbers(), other.steps.numbers()
        assert found.keys() == wanted.keys()
        edge = found["kept"][:until] != wanted["kept"][:until]
        self.edges += int(edge.sum())
        for name in found.keys() - {"top_ids", "top_logprobs", "top_warped_logprobs", "kept"}:
            known = ~edge if name in OF_WARPED else np.ones(until, bool)
            self.note(name, found[name][:until][known], wanted[name][:until][known])
        # Alternatives that are equally likely may stand in either order.
        self.note("top_logprobs", found["top_logprobs"][:until], wanted["top_logprobs"][:until])
        ordered = (found["top_ids"][:until] == wanted["top_ids"][:until]).all(1) & ~edge
        column = "top_warped_logprobs"
        self.note(column, found[column][:until][ordered], wanted[column][:until][ordered])

    def note(self, name: str, a: np.ndarray, b: np.ndarray) -> None:
        a, b = a.astype(np.float64), b.astype(np.float64)
        assert (np.isneginf(a) == np.isneginf(b)).all(), name
        assert (np.isnan(a) == np.isnan(b)).all(), name
        finite = np.isfinite(a) & np.isfinite(b)
        # Of a token that is as good as impossible the logarithm is large, and rounded accordingly.
        gap = np.abs(a[finite] - b[finite]) / np.maximum(1, np.abs(b[finite]))
        self.worst[name] = max(self.worst.get(name, 0.0), float(gap.max(initial=0.0)))

    def hold(self) -> None:
        print(f"\n{self}")
        assert self.equal_tokens >= self.tokens * (1 - RARE) or self.texts - self.equal_texts <= 1
        assert self.texts - self.equal_texts <= max(1, self.tokens * RARE)
        assert self.edges <= self.tokens * RARE
        assert max(value for name, value in self.worst.items() if name != "rank") < CLOSE
        assert self.worst["rank"] <= 1


def samples_of(backend: Any, requests: Sequence[Request]) -> list[Any]:
    found = list(backend.generate(requests, SILENT))
    assert not [one.error for one in found if isinstance(one, Failure)]
    return found


@pytest.mark.parametrize("pair", ["llama", "qwen2"], indirect=True)
def test_all_strategies_at_once(pair: Any, prompts_of: Any, strategy_of: Any) -> None:
    """Every strategy that takes a token a step, 8 ragged prompts, two samples, more texts than rows."""
    backend, loaded = pair
    prompts = prompts_of(loaded, TEXTS)
    every = [{k: plain(v) for k, v in fields.items()} for fields in choices().values()]
    every.append({"cot_branches": 2})
    assert len(every) >= 39
    strategies = [strategy_of(loaded, max_new_tokens=24, **fields) for fields in every]
    requests = [Request(p, sample, one) for one in strategies for p in prompts for sample in range(2)]
    expected = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    compared = Compared()
    for one, other in zip(samples_of(backend, requests), expected, strict=True):
        compared.add(one, other)
    compared.hold()
