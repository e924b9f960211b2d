"""Beam searches that stock `generate` lacks: the rows, the scores and the outputs that they share.

They go by log-probabilities after the strategy's processors. The beams of a prompt are in groups, each with
outputs of its own; how a group chooses is what they differ in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.backends.hf.search_outputs import Search, Searched
from harness.backends.hf.search_rows import SearchRows
from harness.backends.steps.strategy_processors import strategy_processors
from harness.decoding.beam_groups import in_turn, penalised
from harness.decoding.outputs import Beam, BestOutputs, Ends, Output
from harness.decoding.strategy import Strategy
from harness.models.load import LoadedModel


@dataclass
class BeamGroup:
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

    def finish(self) -> None:
        """End the open beams, whose budget is used up."""
        for beam in self.beams:
            self.best.add(beam.tokens, "length", beam.total)


class BeamSearch(Search):
    """Beam search of groups that choose one after the other."""

    def __init__(
        self, loaded: LoadedModel, strategy: Strategy, prompts: Sequence[Searched], use_cache: bool
    ) -> None:
        """Prefill the prompts."""
        fields = strategy.effective
        self._strategy, self._ends = strategy, [prompt.ends for prompt in prompts]
        self._penalty = fields["diversity_penalty"]
        self._size = fields["num_beams"] // fields["num_beam_groups"]
        # Enough of them that no lack of continuations is left where some are EOS.
        self._candidates = max(2, 1 + len(strategy.eos_token_ids)) * self._size
        self._processors = strategy_processors(loaded, strategy)
        self._rows = SearchRows(
            loaded,
            [prompt.ids for prompt in prompts],
            pad=strategy.pad_token_id,
            rows=fields["num_beams"] * len(prompts),
            new_tokens=strategy.max_new_tokens,
            use_cache=use_cache,
        )
        numbers = range(fields["num_beam_groups"])
        self._groups = [[self.group(Beam(row)) for _ in numbers] for row in range(len(prompts))]

    def group(self, root: Beam) -> BeamGroup:
        """Return a new group that begins with a prompt."""
        return BeamGroup(self._size, self.best(), [root])

    def also(self, group: BeamGroup, scores: Tensor) -> list[tuple[int, int]]:
        """Return continuations that are candidates however bad they are: index of the beam, token.

        `scores` (m, V) are those of the group's beams.
        """
        return []

    def best(self) -> BestOutputs:
        """Return the outputs of a new group."""
        fields = self._strategy.effective
        longest = self._strategy.max_new_tokens
        return BestOutputs(self._size, fields["length_penalty"], fields["early_stopping"], longest)

    def run(self, steps: int) -> Iterator[None]:
        """Search; yields after each step. Open beams are outputs at the end."""
        for step in range(steps):
            self._choose()
            yield
            beams = [group for groups in self._groups for group in groups if group.beams]
            if not beams:
                return
            if step < steps - 1:
                self._grow(beams)
        for groups in self._groups:
            for group in groups:
                group.finish()

    def outputs(self) -> list[list[Output]]:
        """Return the outputs of each prompt, those of its groups in turn."""
        return [list(in_turn([group.best for group in groups])) for groups in self._groups]

    def _choose(self) -> None:
        """Let the groups of every prompt choose, one after the other."""
        log_p = self._rows.logits.log_softmax(-1)
        scores = self._processors(self._rows.texts(range(len(log_p))), log_p)
        chosen: list[list[int]] = [[] for _ in self._groups]
        for number in range(len(self._groups[0])):
            prompts = [prompt for prompt, groups in enumerate(self._groups) if groups[number].beams]
            if not prompts:
                continue
            some = [self._groups[prompt][number] for prompt in prompts]
            found = self._best(scores, some, [chosen[prompt] for prompt in prompts])
            for prompt, group, candidates in zip(prompts, some, found, strict=True):
                chosen[prompt] += group.choose(candidates, self._ends[prompt])

    def _best(
        self, scores: Tensor, groups: Sequence[BeamGroup], chosen: Sequence[Sequence[int]]
    ) -> list[list[tuple[float, int, int]]]:
        """Return the candidates of each group: their sum of scores, beam and token, best first."""
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
        also = [
            [beam * vocabulary + token for beam, token in self.also(group, of_group)]
            for group, of_group in zip(groups, of_beams, strict=True)
        ]
        return [
            [
                (total, place // vocabulary, place % vocabulary)
                for total, place in _with_more(flat[row], values[row].tolist(), places[row].tolist(), more)
            ]
            for row, more in enumerate(also)
        ]

    def _grow(self, groups: Sequence[BeamGroup]) -> None:
        """Read the last token of every beam, and give each its row."""
        beams = [beam for group in groups for beam in group.beams]
        tokens = torch.tensor([beam.tokens[-1] for beam in beams], device=self._rows.logits.device)
        self._rows.grow([beam.row for beam in beams], tokens)
        start = 0
        for group in groups:
            group.beams = [replace(beam, row=start + n) for n, beam in enumerate(group.beams)]
            start += len(group.beams)


def _with_more(
    scores: Tensor, values: Sequence[float], places: Sequence[int], more: Sequence[int]
) -> list[tuple[float, int]]:
    """Return scores and their places: the best, and those at some places more, best first."""
    found = list(zip(values, places, strict=True))
    known = set(places)
    if others := [place for place in dict.fromkeys(more) if place not in known]:
        worse = scores[torch.tensor(others, device=scores.device)].tolist()
        found += sorted(zip(worse, others, strict=True), key=lambda one: -one[0])
    return found
