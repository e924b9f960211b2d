"""Diverse beam search: groups of beams that avoid what the groups before them choose.

Stock `generate` has it no more. The search goes by log-probabilities after the strategy's processors, less
the diversity penalty; what is reported and recorded is not: outputs are scored again without that penalty, as
those of beams (`rescore.py`). A group that is finished chooses nothing, so later groups are penalised for
nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from harness.backends.backend import Failure, Request
from harness.backends.hf.clock import Clock
from harness.backends.hf.rescore import rescore
from harness.backends.hf.search_rows import SearchRows
from harness.backends.steps.finished import end_of, finished_sample
from harness.backends.steps.strategy_processors import strategy_processors
from harness.decoding.beam_groups import Beam, BestOutputs, Output, in_turn, penalised
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError
from harness.models.load import LoadedModel
from harness.store.records import FinishReason, Sample

Ends = Callable[[Sequence[int]], FinishReason | None]
"""What the last of an output's tokens ended it with."""


@dataclass
class _Group:
    """Some beams of one prompt, and the outputs that they finished."""

    size: int
    best: BestOutputs
    beams: list[Beam]

    def choose(self, candidates: Sequence[tuple[float, int, int]], ends: Ends) -> list[int]:
        """Take this step's continuations; return their tokens, which later groups are to avoid.

        Args:
            candidates: sum of scores, index of the beam and token, from the best to the worst.
            ends: what a continuation ended with; one that did counts only among the `size` best candidates.
        """
        beams: list[Beam] = []
        length = len(self.beams[0].tokens) + 1
        for rank, (total, parent, token) in enumerate(candidates):
            if total == float("-inf") or len(beams) == self.size:
                break
            tokens = (*self.beams[parent].tokens, token)
            reason = ends(tokens)
            if reason is None or reason == "length":
                beams.append(Beam(self.beams[parent].row, tokens, total))
            elif rank < self.size:
                self.best.add(tokens, reason, total)
        self.beams = [] if self.best.complete(candidates[0][0], length) else beams
        return [beam.tokens[-1] for beam in beams]


class _Search:
    """The searches of several prompts with one strategy."""

    def __init__(
        self,
        loaded: LoadedModel,
        strategy: Strategy,
        prompts: Sequence[Sequence[int]],
        use_cache: bool,
        ends: Sequence[Ends],
    ) -> None:
        """Prefill the prompts; `ends` are those of each."""
        fields = strategy.effective
        self._penalty, self._ends = fields["diversity_penalty"], ends
        self._size = fields["num_beams"] // fields["num_beam_groups"]
        # Enough of them that no lack of continuations is left where some are EOS.
        self._candidates = max(2, 1 + len(strategy.eos_token_ids)) * self._size
        self._processors = strategy_processors(loaded, strategy)
        self._rows = SearchRows(
            loaded,
            prompts,
            pad=strategy.pad_token_id,
            rows=fields["num_beams"] * len(prompts),
            new_tokens=strategy.max_new_tokens,
            use_cache=use_cache,
        )
        best = partial(
            BestOutputs,
            self._size,
            fields["length_penalty"],
            fields["early_stopping"],
            strategy.max_new_tokens,
        )
        numbers = range(fields["num_beam_groups"])
        self.groups = [
            [_Group(self._size, best(), [Beam(row)]) for _ in numbers] for row in range(len(prompts))
        ]

    def run(self, steps: int) -> Iterator[None]:
        """Search; yields after each step. Open beams are outputs at the end."""
        for step in range(steps):
            self._choose()
            yield
            beams = [group for groups in self.groups for group in groups if group.beams]
            if not beams:
                return
            if step < steps - 1:
                self._grow(beams)
        for groups in self.groups:
            for group in groups:
                for beam in group.beams:
                    group.best.add(beam.tokens, "length", beam.total)

    def _choose(self) -> None:
        """Let the groups of every prompt choose, one after the other."""
        log_p = self._rows.logits.log_softmax(-1)
        scores = self._processors(self._rows.texts(range(len(log_p))), log_p)
        chosen: list[list[int]] = [[] for _ in self.groups]
        for number in range(len(self.groups[0])):
            prompts = [prompt for prompt, groups in enumerate(self.groups) if groups[number].beams]
            if not prompts:
                continue
            some = [self.groups[prompt][number] for prompt in prompts]
            found = self._best(scores, some, [chosen[prompt] for prompt in prompts])
            for prompt, group, candidates in zip(prompts, some, found, strict=True):
                chosen[prompt] += group.choose(candidates, self._ends[prompt])

    def _best(
        self, scores: Tensor, groups: Sequence[_Group], chosen: Sequence[Sequence[int]]
    ) -> list[list[tuple[float, int, int]]]:
        """Return the best continuations of each group: their sum of scores, beam and token, best first."""
        most = max(len(group.beams) for group in groups)
        lacking = [most - len(group.beams) for group in groups]
        rows = [
            [beam.row for beam in group.beams] + [group.beams[0].row] * lack
            for group, lack in zip(groups, lacking, strict=True)
        ]
        totals = [
            [beam.total for beam in group.beams] + [float("-inf")] * lack
            for group, lack in zip(groups, lacking, strict=True)
        ]
        device = scores.device
        of_beams = penalised(scores[torch.tensor(rows, device=device)], chosen, self._penalty)
        of_beams = of_beams + torch.tensor(totals, device=device)[..., None]
        vocabulary = scores.shape[1]
        flat = of_beams.flatten(1)
        values, places = flat.topk(min(self._candidates, flat.shape[1]), dim=-1)
        pairs = zip(values.tolist(), places.tolist(), strict=True)
        return [
            [(total, place // vocabulary, place % vocabulary) for total, place in zip(*pair, strict=True)]
            for pair in pairs
        ]

    def _grow(self, groups: Sequence[_Group]) -> None:
        """Read the last token of every beam, and give each its row."""
        beams = [beam for group in groups for beam in group.beams]
        tokens = torch.tensor([beam.tokens[-1] for beam in beams], device=self._rows.logits.device)
        self._rows.grow([beam.row for beam in beams], tokens)
        start = 0
        for group in groups:
            group.beams = [Beam(start + n, one.tokens, one.total) for n, one in enumerate(group.beams)]
            start += len(group.beams)


@torch.inference_mode()
def diverse_beams(
    loaded: LoadedModel,
    requests: Sequence[Request],
    detokenizer: Detokenizer,
    *,
    use_cache: bool = True,
    on_step: Callable[[int], None] = lambda _: None,
) -> list[Sample | Failure]:
    """Search for the outputs of each prompt; sample n is the nth of them (`in_turn`).

    Args:
        loaded: the model.
        requests: of one strategy; prompts may be of different lengths, equal ones share a search.
        detokenizer: of the model's tokenizer; finds stop strings.
        use_cache: False reads the whole text of each beam by itself.
        on_step: called after each step with the number of requests.

    Returns:
        One Sample a request, with `sequence_score`, in their order; a Failure where its numbers are not
        finite, or where there are not so many outputs.
    """
    strategy, clock = requests[0].strategy, Clock()
    prompts = list(dict.fromkeys(request.prompt.ids for request in requests))

    def ends(prompt: Sequence[int]) -> Ends:
        return lambda tokens: end_of(strategy, prompt, tokens, detokenizer)

    search = _Search(loaded, strategy, prompts, use_cache, [ends(prompt) for prompt in prompts])
    for _ in search.run(strategy.max_new_tokens):
        clock.step()
        on_step(len(requests))
    clock.step()
    every = [[group.best for group in groups] for groups in search.groups]
    found = dict(zip(prompts, map(list, map(in_turn, every)), strict=True))
    times = clock.times(None, len(requests))
    samples: list[Sample | Failure] = []
    for request in requests:
        outputs: list[Output] = found[request.prompt.ids]
        if request.sample >= len(outputs):
            samples.append(Failure(_too_few(request, len(outputs))))
            continue
        output = outputs[request.sample]
        steps, score = rescore(loaded, strategy, request.prompt.ids, output.tokens)
        ended = output.tokens, output.reason
        samples.append(finished_sample(loaded, request, *ended, steps, times, detokenizer, score))
    return samples


def _too_few(request: Request, count: int) -> HarnessError:
    where = f"prompt {request.prompt.id}, sample {request.sample}"
    if not count:
        return HarnessError(f"{where}: the strategy leaves no token; relax its bans")
    return HarnessError(f"{where}: the search has {count} outputs only; set generation.samples={count}")


def diverse_beam_steps(
    loaded: LoadedModel, strategy: Strategy, prompts: Sequence[Sequence[int]], use_cache: bool
) -> Iterator[None]:
    """Run the search to its budget without scoring its outputs again."""
    ends: list[Ends] = [lambda _: None] * len(prompts)
    yield from _Search(loaded, strategy, prompts, use_cache, ends).run(strategy.max_new_tokens)
