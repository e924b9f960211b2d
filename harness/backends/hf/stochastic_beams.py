"""Stochastic beam search: samples without replacement (Kool et al. 2019, arXiv:1903.06059).

Every sequence has a perturbed log-probability: its own plus Gumbel noise; those with the largest are a
sample without replacement, in the order in which they would be drawn. The noise of a sequence is found
top-down: that of a text is the largest of its continuations', so the best of all are found without looking at
all. Its hash is keyed by the text, not by the step, so that more samples are the same ones and some more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.backends.hf.rescore import of_draws, rescore
from harness.backends.hf.search_outputs import Search, Searched
from harness.backends.hf.search_rows import SearchRows
from harness.backends.steps.strategy_processors import strategy_processors
from harness.decoding.outputs import EndReason, Output
from harness.decoding.perturbed import child_state, perturbed_children, root_noise, root_state
from harness.decoding.strategy import Strategy
from harness.decoding.warping import warp, whole
from harness.models.load import LoadedModel
from harness.store.records import Steps


@dataclass(frozen=True)
class _Node:
    """A text of the search: its row, tokens, log-probability and that with noise, hash, and what ended it."""

    row: int
    tokens: tuple[int, ...]
    logprob: float
    perturbed: float
    state: int
    reason: EndReason | None = None


class StochasticBeams(Search):
    """As many beams for each prompt as outputs are wanted."""

    def __init__(
        self, loaded: LoadedModel, strategy: Strategy, prompts: Sequence[Searched], use_cache: bool
    ) -> None:
        """Prefill the prompts."""
        self._prompts, self._longest = prompts, strategy.max_new_tokens
        self._processors = strategy_processors(loaded, strategy)
        self._rows = SearchRows(
            loaded,
            [prompt.ids for prompt in prompts],
            pad=strategy.pad_token_id,
            rows=sum(prompt.outputs for prompt in prompts),
            new_tokens=strategy.max_new_tokens,
            use_cache=use_cache,
        )
        states = [root_state(strategy.seed, prompt.id) for prompt in prompts]
        self._found = [[_Node(row, (), 0.0, root_noise(one), one)] for row, one in enumerate(states)]

    def run(self, steps: int) -> Iterator[None]:
        """Search; yields after each step."""
        for step in range(steps):
            self._choose(last=step == self._longest - 1)
            yield
            beams = [node for nodes in self._found for node in nodes if node.reason is None]
            if not beams:
                return
            if step < steps - 1:
                tokens = torch.tensor([node.tokens[-1] for node in beams], device=self._rows.logits.device)
                self._rows.grow([node.row for node in beams], tokens)

    def outputs(self) -> list[list[Output]]:
        """Return the outputs of each prompt, the largest perturbed log-probability first."""
        return [
            [Output(node.tokens, node.reason or "length", node.perturbed) for node in nodes]
            for nodes in self._found
        ]

    @staticmethod
    def scored(
        loaded: LoadedModel, strategy: Strategy, prompt_ids: Sequence[int], output: Output
    ) -> tuple[Steps, float, float | None]:
        """Return an output's steps, its perturbed log-probability and its log-probability."""
        process = of_draws(loaded, strategy, len(prompt_ids))
        steps, total = rescore(loaded, strategy, prompt_ids, output.tokens, process)
        return steps, output.score, total

    def _choose(self, last: bool) -> None:
        """Replace every open text by its continuations, and keep the best texts of each prompt."""
        logits = self._rows.logits
        texts = self._rows.texts(range(len(logits)))
        warped = whole(warp(self._processors, texts, logits, range(len(logits))), logits)
        opened = [node for nodes in self._found for node in nodes if node.reason is None]
        logprobs, scores = _continued(warped, opened)
        start = 0
        for number, (prompt, nodes) in enumerate(zip(self._prompts, self._found, strict=True)):
            parents = [node for node in nodes if node.reason is None]
            its = slice(start, start + len(parents))
            kept = [node for node in nodes if node.reason is not None]
            if parents:
                kept += _best(parents, logprobs[its], scores[its], start, prompt, last)
            start += len(parents)
            kept = sorted(kept, key=lambda node: -node.perturbed)[: prompt.outputs]
            self._found[number] = kept


def _continued(warped: Tensor, parents: Sequence[_Node]) -> tuple[Tensor, Tensor]:
    """Return (R, V) log-probabilities of the continuations of R texts, and the perturbed ones; float64."""
    if warped.device.type == "mps":  # has no float64
        warped = warped.cpu()
    device = warped.device
    own = torch.tensor([node.logprob for node in parents], dtype=torch.float64, device=device)
    perturbed = torch.tensor([node.perturbed for node in parents], dtype=torch.float64, device=device)
    states = torch.tensor([node.state for node in parents], device=device)
    logprobs = own[:, None] + warped.double().log_softmax(-1)
    return logprobs, perturbed_children(perturbed, states, logprobs)


def _best(
    parents: Sequence[_Node], logprobs: Tensor, scores: Tensor, first: int, prompt: Searched, last: bool
) -> list[_Node]:
    """Return the best continuations of one prompt's open texts, of which the first is row `first`."""
    vocabulary = scores.shape[1]
    values, places = scores.flatten().topk(min(prompt.outputs, scores.numel()))
    of_best = logprobs.flatten()[places].tolist()
    found = []
    for perturbed, place, logprob in zip(values.tolist(), places.tolist(), of_best, strict=True):
        if perturbed == float("-inf"):
            break
        index, token = place // vocabulary, place % vocabulary
        parent = parents[index]
        tokens = (*parent.tokens, token)
        reason: EndReason | None = prompt.ends(tokens) or ("length" if last else None)
        state = child_state(parent.state, token)
        found.append(_Node(first + index, tokens, logprob, perturbed, state, reason))
    return found
