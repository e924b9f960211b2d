"""Watermarks in the tree: equal to stock `generate` a prompt at a time, and the same in any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, SynthIDTextWatermarkingConfig, WatermarkingConfig

from harness.analysis.metrics.watermark_scores import watermark_scores
from harness.backends.backend import Request
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.stock_generate import stock_generate
from harness.backends.hf.tree import decode_tree
from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.config.point import Timing
from harness.config.watermark_kinds import detector_of
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import draw, gumbel, noise_key
from harness.decoding.processors import stock_processors

KEYS = (654, 400, 836, 123, 340, 443, 597)
KGW: dict[str, Any] = {"bias": 3.0, "greenlist_ratio": 0.4, "hashing_key": 99_991}
MARKS: dict[str, Any] = {
    "lefthash": WatermarkingConfig(**KGW),
    "selfhash": WatermarkingConfig(**KGW, seeding_scheme="selfhash", context_width=3),
    "synthid": SynthIDTextWatermarkingConfig(ngram_len=3, keys=list(KEYS)),
    "skipping": SynthIDTextWatermarkingConfig(ngram_len=4, keys=list(KEYS), skip_first_ngram_calls=True),
}
FIELDS: dict[str, dict[str, Any]] = {
    "lefthash": {f"kgw_{key}": value for key, value in KGW.items()},
    "selfhash": {
        **{f"kgw_{key}": value for key, value in KGW.items()},
        "kgw_seeding_scheme": "selfhash",
        "kgw_context_width": 3,
    },
    "synthid": {"synthid_ngram_len": 3, "synthid_keys": KEYS},
    "skipping": {"synthid_ngram_len": 4, "synthid_keys": KEYS, "synthid_skip_first_ngram_calls": True},
    "gumbel": {"gumbel_key": 77, "gumbel_context_width": 1},
}
SAMPLING: dict[str, Any] = {"do_sample": True, "temperature": 1.3, "top_p": 0.95}
LENGTH = 12


def neutral(**fields: Any) -> dict[str, Any]:
    return effective_decoding(Decoding(name="x", **fields))


def until_end(loaded: Any, tokens: list[int]) -> tuple[int, ...]:
    eos = loaded.tokenizer.eos_token_id
    return tuple(tokens[: tokens.index(eos) + 1] if eos in tokens else tokens)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("name", MARKS)
def test_greedy_is_stock_generate_one_prompt_at_a_time(
    name: str, kind: str, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model(kind)
    prompts = prompts_of(loaded)
    strategy = strategy_of(loaded, max_new_tokens=LENGTH, **FIELDS[name])
    samples = decode_tree(loaded, [Request(p, 0, strategy) for p in prompts], Detokenizer(loaded.tokenizer))

    def generated(prompt: Any, mark: Any) -> tuple[int, ...]:
        config = GenerationConfig(
            **{**neutral(), "watermarking_config": mark},
            max_new_tokens=LENGTH,
            eos_token_id=loaded.tokenizer.eos_token_id,
            pad_token_id=loaded.tokenizer.pad_token_id,
        )
        ids = torch.tensor([prompt.ids])
        output = loaded.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
        )
        return until_end(loaded, output[0, len(prompt.ids) :].tolist())

    expected = [generated(prompt, MARKS[name]) for prompt in prompts]
    assert [sample.token_ids for sample in samples] == expected
    assert [generated(prompt, None) for prompt in prompts] != expected, "it changes nothing"


@pytest.fixture(scope="module")
def company(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> dict[str, Any]:
    """By name the requests of a watermark, two a prompt, and their samples, decoded with all others."""
    loaded = loaded_model("llama")
    fields = {"none": {}, **FIELDS}
    requests = {
        name: [Request(prompt, sample, strategy) for prompt in prompts_of(loaded) for sample in range(2)]
        for name in fields
        for strategy in [strategy_of(loaded, max_new_tokens=LENGTH, **SAMPLING, **fields[name])]
    }
    every = [request for some in requests.values() for request in some]
    samples = iter(decode_tree(loaded, every, Detokenizer(loaded.tokenizer)))
    return {name: (some, [next(samples) for _ in some]) for name, some in requests.items()}


@pytest.mark.parametrize("name", [*MARKS, "gumbel"])
def test_samples_are_those_of_a_plain_loop_and_of_any_batch(
    name: str, loaded_model: Any, company: Any
) -> None:
    """A loop over whole forward passes with transformers' own list of processors, the noise added by hand."""
    loaded = loaded_model("llama")
    detokenizer = Detokenizer(loaded.tokenizer)
    requests, together = company[name]
    expected = [by_hand(loaded, request, name) for request in requests]
    by_three = [requests[at : at + 3] for at in range(0, len(requests), 3)]
    ways = {
        "company": together,
        "alone": [decode_tree(loaded, [request], detokenizer)[0] for request in requests],
        "unshared": decode_tree(loaded, requests, detokenizer, share=False),
        "threes": [one for some in by_three for one in decode_tree(loaded, some, detokenizer)],
        "stock loop": stock_generate(loaded, requests, detokenizer),
    }
    for way, samples in ways.items():
        assert [sample.token_ids for sample in samples] == expected, way
    if name == "gumbel":
        pairs = list(zip(expected[::2], expected[1::2], strict=True))
        assert all(one[0] == two[0] for one, two in pairs), "the noise is of no sample"
        assert any(one != two for one, two in pairs), "a context that comes again has the sample's own noise"


def by_hand(loaded: Any, request: Request, name: str) -> tuple[int, ...]:
    prompt = list(request.prompt.ids)
    config = GenerationConfig(**{**neutral(**SAMPLING), "watermarking_config": MARKS.get(name)})
    processors = stock_processors(loaded.model, config, len(prompt), "cpu")
    own = noise_key(0, request.prompt.id, request.sample)
    vocabulary = torch.arange(loaded.model.config.vocab_size)[None]
    output: list[int] = []
    contexts: list[list[int]] = []
    for step in range(LENGTH):
        ids = torch.tensor([[*prompt, *output]])
        with torch.inference_mode():
            scores = processors(ids, loaded.model(ids).logits[:, -1].float())
        context = ids[0, -1:].tolist()
        if name == "gumbel" and context not in contexts:
            scores = scores + keyed(context, vocabulary)
            output.append(int(scores.argmax()))
        else:
            output.append(int(draw(scores, torch.tensor([own]), step)))
        contexts.append(context)
        if output[-1] == loaded.tokenizer.eos_token_id:
            break
    return tuple(output)


def keyed(context: list[int], vocabulary: torch.Tensor) -> torch.Tensor:
    """The noise of key 77 after one token: stock's hash of a step, at step 0."""
    import hashlib

    from harness.decoding.gumbel import step_state

    digest = hashlib.blake2b(f"77\x1f{context[0]}".encode(), digest_size=8).digest()
    key = int.from_bytes(digest, "little", signed=True)
    return gumbel(step_state(torch.tensor([[key]]), 0), vocabulary)


@pytest.mark.parametrize("name", ["lefthash", "synthid", "gumbel"])
def test_the_mark_is_found_and_no_other(
    name: str, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    prompts = prompts_of(loaded)
    fields = {**FIELDS[name], **({"gumbel_context_width": 3} if name == "gumbel" else {})}
    both = [
        strategy_of(loaded, max_new_tokens=60, ends=False, do_sample=True, temperature=1.5, **more)
        for more in (fields, {})
    ]
    requests = [Request(prompt, 0, strategy) for strategy in both for prompt in prompts]
    samples = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    detector = detector_of(both[0].effective, loaded.model.config.vocab_size)
    assert detector is not None
    z = [watermark_scores(detector, sample.token_ids)[f"{detector.name}_z"] for sample in samples]
    marked, plain = z[: len(prompts)], z[len(prompts) :]
    assert min(marked) > 3
    assert np.abs(plain).max() < 3.5
    timing = Timing(name="t", prompts=2, repeats=1, warmup=0, batch_size=2, new_tokens=5)
    assert time_strategy(loaded, requests[:2], timing, context_length=None)
