"""Searches that follow several sequences of each prompt: what they are, and their outputs as samples.

A search goes by scores of its own; its outputs are scored again (`rescore.py`), which is what is recorded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from harness.backends.backend import Failure, Request
from harness.backends.hf.clock import Clock
from harness.backends.hf.rescore import beam_score, of_beams, rescore
from harness.backends.steps.finished import end_of, finished_sample
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.outputs import Ends, Output
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError
from harness.models.load import LoadedModel
from harness.store.records import Sample, Steps, Times


@dataclass(frozen=True)
class Searched:
    """A prompt of a search.

    Attributes:
        id: the prompt's.
        ids: its tokens.
        outputs: how many are wanted.
        ends: what ends a sequence.
    """

    id: str
    ids: tuple[int, ...]
    outputs: int
    ends: Ends


class Search(ABC):
    """The searches of several prompts, of different lengths, with one strategy."""

    @abstractmethod
    def __init__(
        self, loaded: LoadedModel, strategy: Strategy, prompts: Sequence[Searched], use_cache: bool
    ) -> None:
        """Prefill the prompts; without a cache each sequence is read by itself, as a whole."""

    @abstractmethod
    def run(self, steps: int) -> Iterator[None]:
        """Search for at most so many steps; yields after each."""

    @abstractmethod
    def outputs(self) -> list[list[Output]]:
        """Return the outputs of each prompt; sample n is the nth of them."""

    @staticmethod
    def scored(
        loaded: LoadedModel, strategy: Strategy, prompt_ids: Sequence[int], output: Output
    ) -> tuple[Steps, float, float | None]:
        """Return an output's steps, `sequence_score` and `sequence_logprob`."""
        process = of_beams(loaded, strategy, len(prompt_ids))
        steps, total = rescore(loaded, strategy, prompt_ids, output.tokens, process)
        return steps, beam_score(strategy, output.tokens, total), None

    @staticmethod
    def nothing_left(strategy: Strategy) -> str:
        """Return why a prompt has no output, and the cure."""
        return "the strategy leaves no token; relax its bans"


@torch.inference_mode()
def search_outputs(
    search: type[Search],
    loaded: LoadedModel,
    requests: Sequence[Request],
    detokenizer: Detokenizer,
    *,
    use_cache: bool = True,
    on_step: Callable[[int], None] = lambda _: None,
) -> list[Sample | Failure]:
    """Search for the outputs of each prompt.

    Args:
        search: how.
        loaded: the model.
        requests: of one strategy; those of one prompt share a search.
        detokenizer: of the model's tokenizer; finds stop strings.
        use_cache: False reads the whole text of each sequence by itself.
        on_step: called after each step with the number of requests.

    Returns:
        One Sample a request, in their order; a Failure where its numbers are not finite, or where there are
        not so many outputs.
    """
    strategy, clock = requests[0].strategy, Clock()

    def ends(prompt: Sequence[int]) -> Ends:
        return lambda tokens: end_of(strategy, prompt, tokens, detokenizer)

    wanted: dict[tuple[str, tuple[int, ...]], int] = {}
    for request in requests:
        key = request.prompt.id, request.prompt.ids
        wanted[key] = max(wanted.get(key, 0), request.sample + 1)
    prompts = [Searched(*key, count, ends(key[1])) for key, count in wanted.items()]
    running = search(loaded, strategy, prompts, use_cache)
    for _ in running.run(strategy.max_new_tokens):
        clock.step()
        on_step(len(requests))
    clock.step()
    found = dict(zip(wanted, running.outputs(), strict=True))
    times = clock.times(None, len(requests))
    return [
        _sample(search, loaded, request, found[request.prompt.id, request.prompt.ids], times, detokenizer)
        for request in requests
    ]


def _sample(
    search: type[Search],
    loaded: LoadedModel,
    request: Request,
    outputs: Sequence[Output],
    times: Times,
    detokenizer: Detokenizer,
) -> Sample | Failure:
    if request.sample >= len(outputs):
        where = f"prompt {request.prompt.id}, sample {request.sample}"
        if not outputs:
            return Failure(HarnessError(f"{where}: {search.nothing_left(request.strategy)}"))
        problem = f"the search has {len(outputs)} outputs only; set generation.samples={len(outputs)}"
        return Failure(HarnessError(f"{where}: {problem}"))
    output = outputs[request.sample]
    steps, score, logprob = search.scored(loaded, request.strategy, request.prompt.ids, output)
    return finished_sample(
        loaded,
        request,
        output.tokens,
        output.reason,
        steps,
        times,
        detokenizer,
        sequence_score=score,
        sequence_logprob=logprob,
    )


def search_steps(
    search: type[Search],
    loaded: LoadedModel,
    strategy: Strategy,
    prompts: Sequence[Sequence[int]],
    use_cache: bool,
) -> Iterator[None]:
    """Run a search to its budget for the latency pass; nothing ends a sequence, and none is scored again."""
    searched = [
        Searched(str(number), tuple(ids), strategy.samples, lambda _: None)
        for number, ids in enumerate(prompts)
    ]
    yield from search(loaded, strategy, searched, use_cache).run(strategy.max_new_tokens)
