"""At load: are the logits that vLLM gives its processors those of the rows that they are told?

A few ragged prompts are decoded greedily through the processor; then vLLM reads each whole text and tells the
log-probabilities itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.backends.backend import Failure, Request
from harness.backends.vllm.engine_run import run_requests
from harness.backends.vllm.vllm_engine import Opened
from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError
from harness.models.load import LoadedModel
from harness.prompts.prompt import Prompt
from harness.store.records import Sample

_TOKENS = 4
_LENGTHS = (12, 5, 9)
_EXACT = 1e-3
"""Nats that a log-probability may differ by in float32."""
_ROUNDED = 0.2
"""Nats that they may differ by on average where the weights or the dtype round more."""

Generate = Callable[[Sequence[Request]], Sequence[Sample | Failure]]


def check_rows(opened: Opened, loaded: LoadedModel, generate: Generate) -> None:
    """Compare what was recorded of some texts with what vLLM tells of them.

    Raises:
        HarnessError: they differ by more than rounding.
    """
    requests = _requests(loaded, opened.max_model_len)
    texts, recorded = [], []
    for request, sample in zip(requests, generate(requests), strict=True):
        if isinstance(sample, Failure):
            raise sample.error
        assert sample.steps is not None
        assert sample.steps.logprob is not None
        texts.append((*request.prompt.ids, *(sample.token_ids or ())))
        recorded.append(sample.steps.logprob)
    told = _told_by_vllm(opened.engine, texts)
    found = np.concatenate(recorded).astype(np.float64)
    wanted = np.concatenate([values[-len(own) :] for values, own in zip(told, recorded, strict=True)])
    gap = np.abs(found - wanted)
    exact = loaded.dtype == "float32" and not loaded.facts.get("quant_method")
    if not (gap.max() <= _EXACT if exact else gap.mean() <= _ROUNDED):
        problem = f"what it gives its logits processors is not what it computes (up to {gap.max():.3g} nats)"
        cure = "use backend=hf, and report this with vLLM's version"
        raise HarnessError(f"backend=vllm: {loaded.files.id}: {problem}; {cure}")


def _requests(loaded: LoadedModel, longest: int) -> list[Request]:
    greedy = Strategy(
        effective=effective_decoding(Decoding(name="self-test")),
        max_new_tokens=_TOKENS,
        seed=0,
        stop_strings=(),
        eos_token_ids=(),
        pad_token_id=0,
        top_k=1,
    )
    usable = max(1, min(loaded.files.vocab_size or 200, 200) - 3)
    found = []
    for number, length in enumerate(_LENGTHS):
        size = max(1, min(length, longest - _TOKENS - 1))
        ids = tuple(3 + (7 * (index + 20 * number)) % usable for index in range(size))
        found.append(Request(Prompt(str(number), "", ids), 0, greedy))
    return found


def _told_by_vllm(engine: Any, texts: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Return the log-probability of each token of some texts but the first, given those before it."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    params = SamplingParams(
        temperature=0.0,
        max_tokens=1,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        prompt_logprobs=0,
    )
    found: dict[int, np.ndarray] = {}

    def on_step(new: Mapping[int, Any]) -> tuple[()]:
        for number, output in new.items():
            if output.prompt_logprobs:
                pairs = zip(texts[number][1:], output.prompt_logprobs[1:], strict=True)
                found[number] = np.array([told[token].logprob for token, told in pairs])
        return ()

    run_requests(engine, texts, [params] * len(texts), on_step)
    return [found[number] for number in range(len(texts))]
