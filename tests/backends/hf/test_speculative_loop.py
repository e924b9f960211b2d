"""Speculative texts are those of plain decoding, and their forward passes follow from the texts alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from harness.analysis.speculative_blocks import Pass, Proposals, acceptance, model_proposals, replay
from harness.backends.backend import Request
from harness.backends.drafting import Draft
from harness.backends.hf.drafts_along import drafts_along
from harness.backends.hf.speculative_loop import Reader, Target, speculate
from harness.backends.hf.speculator import HfSpeculator
from harness.backends.hf.strategy_chain import StrategyChain
from harness.backends.hf.tree import decode_tree
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.own_checks import planned_processors
from harness.decoding.prompt_lookup import look_up

STRATEGIES: dict[str, dict[str, Any]] = {
    "mirostat": {"do_sample": True, "mirostat_mode": 2},
    "temperature": {"do_sample": True, "temperature": 1.3},
    "top_p": {"do_sample": True, "temperature": 0.7, "top_p": 0.9},
    "cot": {"cot_branches": 4},
    "greedy": {},
    "adaptive_p": {"do_sample": True, "adaptive_target": 0.5, "min_p": 0.02},
    "sampled penalty": {"do_sample": True, "repetition_penalty": 1.3, "min_new_tokens": 4},
    "dry": {"do_sample": True, "dry_multiplier": 0.8, "top_k": 50},
    "greedy penalties": {"repetition_penalty": 1.2, "presence_penalty": 0.3},
    "mirostat 1": {"do_sample": True, "mirostat_mode": 1, "mirostat_tau": 3.0},
    "kgw": {"do_sample": True, "kgw_bias": 3.0},
    "gumbel": {"do_sample": True, "gumbel_key": 7, "gumbel_context_width": 2},
    "synthid": {"do_sample": True, "synthid_keys": (3, 5, 8, 13)},
}
DRAFTS = ("fable_tiny", "prompt lookup", "first layer", "nonsense")
CASES = [(list(STRATEGIES)[i % 13], DRAFTS[(i // 13 + i % 13) % 4]) for i in range(52)]
"""Every strategy with every draft; of ten texts each."""

MODEL = Draft("model", "fable_tiny", model="fable_tiny")
ITSELF = Draft("model", "fable_small", model="fable_small")
EXIT = Draft("early_exit", "first layer", layers=1)
LOOKUP = Draft("prompt_lookup", "prompt lookup", ngram=2)
BLOCKS = (1, 3, 5, 2, 8)


class Nonsense:
    """Proposes the same token again and again, whatever the text."""

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        return [7] * count


class Bench:
    """A model with its drafts, and texts that the tree decodes."""

    def __init__(
        self, loaded_model: Any, prompts_of: Any, strategy_of: Any, kind: str = "fable_small"
    ) -> None:
        self.loaded = loaded_model(kind)
        self.detokenizer = Detokenizer(self.loaded.tokenizer)
        self.speculator = HfSpeculator(self.loaded, self.detokenizer, loaded_model, True)
        self._prompts, self._strategy_of = prompts_of(self.loaded), strategy_of

    def texts(self, samples: int = 2, **fields: Any) -> list[tuple[Request, list[int]]]:
        """Requests of one strategy, and what plain decoding in the tree makes of them."""
        strategy = self._strategy_of(self.loaded, **{"max_new_tokens": 40, **fields})
        requests = [
            Request(prompt, sample, strategy) for prompt in self._prompts for sample in range(samples)
        ]
        found = decode_tree(self.loaded, requests, self.detokenizer)
        return [(r, one.steps.token_id.tolist()) for r, one in zip(requests, found, strict=True)]  # type: ignore[union-attr]

    def run(self, request: Request, draft: Any, block: int) -> Any:
        if isinstance(draft, Draft):
            return self.speculator.run(request, draft, block)
        target = Target(Reader(self.loaded), StrategyChain(self.loaded, [request]), request)
        return speculate(target, draft, request, block, self.detokenizer)


@pytest.fixture(scope="module")
def bench(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> Bench:
    return Bench(loaded_model, prompts_of, strategy_of)


def proposals_of(draft: Draft | None, request: Request, tokens: list[int], along: Any) -> Proposals:
    """What a draft proposes after the first tokens of a text that is known."""
    if draft is None:
        return lambda start, count: [7] * count
    if draft.kind == "prompt_lookup":
        return lambda start, count: look_up([*request.prompt.ids, *tokens[:start]], draft.ngram, count)
    return model_proposals(along[draft.name].proposals.tolist())


@pytest.mark.thinned(11)
@pytest.mark.parametrize(("strategy", "name"), CASES)
def test_texts_equal_plain_ones_and_their_passes_are_known(bench: Bench, strategy: str, name: str) -> None:
    fields = STRATEGIES[strategy]
    texts = bench.texts(**fields, stop_strings=["river"] if strategy == "dry" else [])
    draft = {one.name: one for one in (MODEL, LOOKUP, EXIT)}.get(name)
    along = bench.speculator.along(texts, [draft] if draft else [])
    assert len(texts) == 10
    for number, ((request, tokens), proposed) in enumerate(zip(texts, along, strict=True)):
        block = BLOCKS[number % len(BLOCKS)]
        run = bench.run(request, draft or Nonsense(), block)
        assert list(run.tokens) == tokens, (number, "another text")
        budget = request.strategy.max_new_tokens
        assert list(run.passes) == replay(
            tokens, proposals_of(draft, request, tokens, proposed), block, budget
        )


@pytest.mark.thinned(2)
@pytest.mark.parametrize("strategy", ["mirostat", "temperature", "greedy", "sampled penalty"])
def test_a_draft_that_is_the_model_is_always_right(bench: Bench, strategy: str) -> None:
    texts = bench.texts(1, ends=False, max_new_tokens=25, **STRATEGIES[strategy])
    (along,) = bench.speculator.along(texts[:1], [ITSELF])
    assert along["fable_small"].proposals.tolist() == texts[0][1]
    assert along["fable_small"].coupling == pytest.approx([1.0] * 25)
    for request, tokens in texts[:2]:
        run = bench.run(request, ITSELF, 4)
        assert list(run.tokens) == tokens
        assert run.passes == (Pass(4, 4),) * 5  # five tokens each


def test_a_text_ends_at_a_stop_string_inside_a_block(bench: Bench) -> None:
    """Stock `generate` looks only at the end of a block, and goes on past the string."""
    inside = 0
    for number in range(4):
        _, tokens = bench.texts(1, ends=False, **STRATEGIES["top_p"])[number]
        stop = bench.loaded.tokenizer.decode(tokens[:13])[-9:-1]  # of several tokens, ends within the last
        request, tokens = bench.texts(1, ends=False, stop_strings=[stop], **STRATEGIES["top_p"])[number]
        assert len(tokens) <= 13
        run = bench.run(request, ITSELF, 8)
        assert list(run.tokens) == tokens
        inside += run.passes[-1].accepted < run.passes[-1].proposed
    assert inside >= 2


def test_without_a_draft_it_is_plain_decoding(bench: Bench) -> None:
    for request, tokens in bench.texts(1, **STRATEGIES["mirostat"]):
        run = bench.run(request, None, 0)
        assert (list(run.tokens), len(run.passes)) == (tokens, len(tokens))


@pytest.mark.thinned(4)
@pytest.mark.parametrize("strategy", ["mirostat", "top_p", "sampled penalty", "temperature"])
def test_acceptance_is_what_theory_says(bench: Bench, strategy: str) -> None:
    texts = bench.texts(8, ends=False, **STRATEGIES[strategy])
    along = bench.speculator.along(texts, [MODEL, EXIT])
    for draft in (MODEL, EXIT):
        pairs = [(one[draft.name], tokens) for one, (_, tokens) in zip(along, texts, strict=True)]
        agreed = [one.proposals == tokens for one, tokens in pairs]
        found = acceptance(agreed, [one.coupling for one, _ in pairs], [one.overlap for one, _ in pairs])
        assert found is not None
        assert found.positions == 1600
        assert abs(found.observed - found.coupling.mean) <= 3 * found.coupling.se
        tv = 1 - found.overlap.mean
        assert (1 - tv) / (1 + tv) <= found.coupling.mean <= 1 - tv + 1e-9
        assert 0.3 < found.coupling.mean < 0.999


@pytest.mark.thinned(2)
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_other_architectures(loaded_model: Any, prompts_of: Any, strategy_of: Any, kind: str) -> None:
    bench = Bench(loaded_model, prompts_of, strategy_of, kind)
    assert bench.speculator.obstacle is None
    for fields in (STRATEGIES["top_p"], STRATEGIES["mirostat"]):
        texts = bench.texts(1, max_new_tokens=16, **fields)[:3]
        for (request, tokens), along in zip(texts, bench.speculator.along(texts, [EXIT]), strict=True):
            run = bench.run(request, EXIT, 3)
            assert list(run.tokens) == tokens
            assert list(run.passes) == replay(tokens, proposals_of(EXIT, request, tokens, along), 3, 16)


def test_a_window_is_an_obstacle(loaded_model: Any) -> None:
    loaded = loaded_model("mistral")
    speculator = HfSpeculator(loaded, Detokenizer(loaded.tokenizer), loaded_model, True)
    assert speculator.obstacle == "its cache cannot forget rejected tokens"
    speculator = HfSpeculator(loaded_model("llama"), Detokenizer(loaded.tokenizer), loaded_model, False)
    assert speculator.obstacle == "its cache is not read right step by step"


def test_a_grammar_and_processors_of_ones_own(bench: Bench) -> None:
    pytest.importorskip("llguidance")
    own = planned_processors([{"path": f"{Path(__file__).parent / 'own_samples.py'}:Counting"}])
    for fields in ({"do_sample": True, "regex": " ?[a-z]{3,9}( [a-z]{2,9}){3}\\."}, {"do_sample": True}):
        texts = bench.texts(2, **fields)
        if "regex" not in fields:
            texts = _with_own(bench, texts, own.fields)
        along = bench.speculator.along(texts, [MODEL])
        for (request, tokens), proposed in list(zip(texts, along, strict=True))[:6]:
            run = bench.run(request, MODEL, 4)
            assert list(run.tokens) == tokens
            assert list(run.passes) == replay(tokens, proposals_of(MODEL, request, tokens, proposed), 4, 40)


def _with_own(bench: Bench, texts: Any, fields: Any) -> list[tuple[Request, list[int]]]:
    from dataclasses import replace

    strategy = texts[0][0].strategy
    strategy = replace(strategy, effective={**strategy.effective, **fields})
    requests = [replace(request, strategy=strategy) for request, _ in texts]
    found = decode_tree(bench.loaded, requests, bench.detokenizer)
    return [(r, one.steps.token_id.tolist()) for r, one in zip(requests, found, strict=True)]  # type: ignore[union-attr]


def test_models_without_a_known_head_are_read_as_well(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = bench.texts(1, **STRATEGIES["mirostat"])[:2]
    (known, _) = bench.speculator.along(texts, [EXIT])
    monkeypatch.setattr("harness.backends.hf.teacher_forcing.head_of", lambda model: None)
    (found, _) = bench.speculator.along(texts, [EXIT])
    assert found["first layer"].proposals.tolist() == known["first layer"].proposals.tolist()
    assert found["first layer"].coupling == pytest.approx(known["first layer"].coupling, abs=1e-4)


def test_a_draft_whose_vocabulary_is_padded_otherwise(bench: Bench, loaded_model: Any) -> None:
    import copy
    from contextlib import nullcontext
    from dataclasses import replace

    tiny = loaded_model("fable_tiny")
    wide = replace(tiny, model=copy.deepcopy(tiny.model))
    wide.model.resize_token_embeddings(wide.model.config.vocab_size + 8)
    wide.model.generation_config = GenerationConfig()
    texts = bench.texts(1, **STRATEGIES["temperature"])[:2]
    found = drafts_along(bench.loaded, texts, {"wide": (wide, nullcontext), "tiny": (tiny, nullcontext)})
    for one in found:
        assert one["wide"].proposals.tolist() == one["tiny"].proposals.tolist()
        assert one["wide"].overlap == pytest.approx(one["tiny"].overlap, abs=1e-4)
