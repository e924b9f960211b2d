"""A decoding loop of the user's own, `decoding.generate=FILE.py:FUNCTION`.

The function is called with several prompts at once and returns the new tokens of each. What is recorded of
them is the model's distribution, by rescoring; what the loop drew from is not known. What it returns after
the first EOS or stop string is left out.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from harness.backends.backend import Failure, Request
from harness.backends.hf.adaptive_batches import out_of_memory
from harness.backends.hf.clock import Clock
from harness.backends.hf.rescore import rescore
from harness.backends.steps.finished import end_of, finished_sample
from harness.config.processor_entries import LoopEntry
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import noise_key
from harness.decoding.own_checks import LOOP_GIVEN
from harness.decoding.own_code import load_code
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError, one_line
from harness.models.load import LoadedModel
from harness.store.records import Sample

Ids = tuple[int, ...]


class OwnLoop:
    """The function of a strategy on a loaded model."""

    def __init__(self, loaded: LoadedModel, strategy: Strategy) -> None:
        """Load the code."""
        planned = strategy.effective["generate"]
        self._loaded, self._strategy = loaded, strategy
        self._entry = LoopEntry(planned["path"], arguments=planned["arguments"])
        self._function: Callable[..., Any] = load_code(self._entry, planned["code"])
        given = dict(zip(LOOP_GIVEN, (loaded.tokenizer, loaded.device), strict=True))
        taken = inspect.signature(self._function).parameters
        self._arguments = {name: value for name, value in given.items() if name in taken}
        self._arguments |= planned["arguments"]

    def __call__(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int]
    ) -> list[tuple[Ids, float | None]]:
        """Return the new tokens of each prompt, and their score where the function tells one.

        Raises:
            HarnessError: the function failed, or returned something else.
        """
        strategy = self._strategy
        settings = {name: value for name, value in strategy.effective.items() if name != "generate"}
        settings["eos_token_id"] = list(strategy.eos_token_ids)
        settings["pad_token_id"] = strategy.pad_token_id
        settings["stop_strings"] = list(strategy.stop_strings)
        budget, texts = strategy.max_new_tokens, [list(ids) for ids in prompts]
        try:
            found = self._function(
                self._loaded.model, texts, budget, list(seeds), settings, **self._arguments
            )
        except (Exception, SystemExit) as error:
            if out_of_memory(error):
                raise
            raise self._wrong(f"raised {one_line(error)}") from error
        if isinstance(found, torch.Tensor):
            found = found.tolist()
        if not isinstance(found, (list, tuple)):
            raise self._wrong(f"returned {type(found).__name__}, not a list of the tokens of each prompt")
        if len(found) != len(prompts):
            raise self._wrong(f"returned {len(found)} outputs for {len(prompts)} prompts; return one of each")
        return [self._checked(one, prompt) for one, prompt in zip(found, prompts, strict=True)]

    def _checked(self, output: Any, prompt: Sequence[int]) -> tuple[Ids, float | None]:
        """Return the tokens of one prompt and their score."""
        score = None
        if isinstance(output, tuple) and len(output) == 2 and not isinstance(output[0], int):
            output, score = output
            score = float(score) if isinstance(score, (int, float, torch.Tensor)) else math.nan
            if not math.isfinite(score):
                raise self._wrong("returned a score that is no finite number; return (ids, score) or ids")
        ids = output.tolist() if isinstance(output, torch.Tensor) else output
        if not isinstance(ids, (list, tuple)) or not all(type(one) is int for one in ids):
            raise self._wrong(f"returned {_short(ids)} for a prompt, not a list of token ids")
        if not ids:
            raise self._wrong("returned no token for a prompt; return one at least")
        budget, vocabulary = self._strategy.max_new_tokens, self._loaded.model.config.vocab_size
        if len(ids) > budget:
            holds = list(ids[: len(prompt)]) == list(prompt)
            cure = "return the new ones only, without the prompt" if holds else "stop at max_new_tokens"
            raise self._wrong(f"returned {len(ids)} tokens of at most {budget}; {cure}")
        if wrong := [one for one in ids if not 0 <= one < vocabulary]:
            raise self._wrong(f"returned the token {wrong[0]}, and ids are 0 to {vocabulary - 1}")
        return tuple(ids), score

    def too_short(self, count: int) -> HarnessError:
        """Return that a timed text has too few tokens."""
        budget = self._strategy.max_new_tokens
        problem = f"returned {count} of {budget} tokens where nothing ends a text, so it cannot be timed"
        return self._wrong(f"{problem}; use timing=off")

    def _wrong(self, problem: str) -> HarnessError:
        return HarnessError(f"{self._entry.key}: {self._entry.name} {problem}")


@torch.inference_mode()
def own_loop(
    loaded: LoadedModel,
    requests: Sequence[Request],
    detokenizer: Detokenizer,
    *,
    use_cache: bool = True,
    on_step: Callable[[int], None] = lambda _: None,
) -> list[Sample | Failure]:
    """Return one Sample a request, in their order, or a Failure.

    Args:
        loaded: the model.
        requests: of one strategy; prompts may be of different lengths.
        detokenizer: of the model's tokenizer; finds stop strings.
        use_cache: is the function's own matter.
        on_step: called with the number of tokens once the function has returned.
    """
    strategy, clock = requests[0].strategy, Clock()
    # Where nothing is drawn the seed is not part of the address.
    seed = strategy.seed if strategy.do_sample else 0
    seeds = [_seed(seed, request.prompt.id, request.sample) for request in requests]
    cuda = [loaded.device] if loaded.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seeds[0])
        found = OwnLoop(loaded, strategy)([request.prompt.ids for request in requests], seeds)
    clock.step()
    times = clock.times(None, len(requests))
    samples = []
    for request, (returned, score) in zip(requests, found, strict=True):
        prompt = request.prompt.ids
        ids, reason = returned, None
        for count in range(1, len(returned) + 1):
            reason = end_of(strategy, prompt, returned[:count], detokenizer)
            if reason is not None:
                ids = returned[:count]
                break
        on_step(len(ids))
        steps, _ = rescore(loaded, strategy, prompt, ids, None)
        samples.append(
            finished_sample(loaded, request, ids, reason, steps, times, detokenizer, sequence_score=score)
        )
    return samples


def own_loop_steps(
    loaded: LoadedModel, strategy: Strategy, prompts: Sequence[Sequence[int]]
) -> Iterator[None]:
    """Run the function once for the latency pass.

    Raises:
        HarnessError: it made fewer tokens than it was to.
    """
    loop = OwnLoop(loaded, strategy)
    found = loop(prompts, [_seed(strategy.seed, str(number), 0) for number in range(len(prompts))])
    if (shortest := min(len(ids) for ids, _ in found)) < strategy.max_new_tokens:
        raise loop.too_short(shortest)
    yield


def _seed(seed: int, prompt_id: str, sample: int) -> int:
    """Return the seed of a request, which torch's generators take."""
    return noise_key(seed, prompt_id, sample) & (2**63 - 1)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
