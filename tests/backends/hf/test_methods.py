"""Which method decodes a strategy, and the facts of a method that are known before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from harness.backends.hf import methods
from harness.backends.hf.methods import METHODS, Beams, StockGenerate, Tree, method_of
from harness.backends.steps.generation_config import generation_config
from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.decoding.processors import stock_processors

FP8 = {"backend": "fp8"}


def effective(**fields: Any) -> dict[str, Any]:
    return effective_decoding(Decoding(name="x", **fields))


def test_the_method_of_a_strategy() -> None:
    greedy, beams = effective(), effective(num_beams=3)
    assert method_of(greedy).name == "tree"
    assert method_of(effective(do_sample=True, top_p=0.9)).name == "tree"
    assert method_of(beams).name == "beams"
    assert method_of(effective(do_sample=True, num_beams=2)).name == "beams"
    assert method_of(greedy, FP8).name == "stock_generate"
    assert method_of(greedy, tree_is_right=False).name == "stock_generate"
    assert method_of(beams, tree_is_right=False).name == "beams"
    groups = effective(num_beams=4, num_beam_groups=2, diversity_penalty=1.0)
    assert method_of(groups).name == method_of(groups, tree_is_right=False).name == "diverse_beams"
    assert method_of(effective(num_beams=4, num_beam_groups=1, diversity_penalty=1.0)).name == "beams"
    words = effective(num_beams=4, force_words_ids=((3,), ((4, 5), (6,))))
    assert method_of(words).name == method_of(words, tree_is_right=False).name == "constrained_beams"
    drawn = effective(do_sample=True, stochastic_beams=True)
    assert method_of(drawn).name == method_of(drawn, tree_is_right=False).name == "stochastic_beams"
    contrastive = effective(penalty_alpha=0.6, top_k=4)
    assert method_of(contrastive).name == "contrastive_search"
    assert method_of(contrastive, tree_is_right=False).name == "contrastive_search"


def test_facts_of_the_methods() -> None:
    rows = {"tree": {}, "beams": {"num_beams": 3}, "contrastive_search": {"penalty_alpha": 0.6, "top_k": 5}}
    found = [method_of(effective(**fields)).rows_per_request(effective(**fields)) for fields in rows.values()]
    assert found == [1, 3, 5]
    assert [method.name for method in METHODS if not method.streams] == [
        "own_loop", "diverse_beams", "constrained_beams", "stochastic_beams", "beams",
    ]  # fmt: skip
    assert [method.name for method in METHODS if method.shares_batches] == ["tree"]
    assert Tree().batches_requests(effective(), None)
    assert StockGenerate().batches_requests(effective(), None)
    assert not StockGenerate().batches_requests(effective(), FP8)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"length_penalty": 0.5, "early_stopping": True},
        {"early_stopping": "never"},
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 4},
        {"suppress_tokens": (5,)},
        {"renormalize_logits": True},
    ],
    ids=str,
)
def test_beams_without_stock_processors_share_a_search(
    fields: dict[str, Any], loaded_model: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, num_beams=2, **fields)
    config = generation_config(strategy)
    together = Beams().batches_requests(strategy.effective, None)
    assert together == (not stock_processors(loaded.model, config, 1, "cpu"))
    assert not Beams().batches_requests({**strategy.effective, "do_sample": True}, None)


def test_another_method_is_one_more_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    class Another(StockGenerate):
        name = "another"

        def accepts(self, effective: Any, cache: Any, tree_is_right: bool) -> bool:
            return effective["constraints"] is not None

    monkeypatch.setattr(methods, "METHODS", (Another(), *METHODS))
    assert method_of({**effective(), "constraints": [3]}).name == "another"
    assert method_of(effective()).name == "tree"


def test_needs_no_torch() -> None:
    code = (
        "import harness.backends.hf.methods, sys; assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
