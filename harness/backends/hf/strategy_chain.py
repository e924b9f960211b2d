"""What one strategy chooses along given texts: its chain over their logits, with the texts' own noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from harness.backends.backend import Request
from harness.backends.hf.padded_batch import pad_left
from harness.backends.steps.strategy_processors import strategy_processors
from harness.decoding.branches import tokens_of_rank
from harness.decoding.gumbel import draw
from harness.decoding.gumbel_numpy import key_of_step, noise_key
from harness.decoding.logits import Logits
from harness.decoding.sampler_chain import Drawable
from harness.decoding.texts import Texts
from harness.decoding.warping import note_chosen, warp, whole
from harness.models.load import LoadedModel


class StrategyChain:
    """A strategy's processors, samplers and noise for N texts, each known by its index.

    A draft has the same chain but for the user's own processors, which see every text once, in order.
    """

    def __init__(self, loaded: LoadedModel, requests: Sequence[Request], *, of_draft: bool = False) -> None:
        """Begin texts of one strategy; `loaded` is the target also where the chain is a draft's."""
        strategy = requests[0].strategy
        if of_draft and "processors" in strategy.effective:
            fields = {name: value for name, value in strategy.effective.items() if name != "processors"}
            strategy = replace(strategy, effective=fields)
        self._processors = strategy_processors(loaded, strategy)
        self._device, self._pad = loaded.device, strategy.pad_token_id
        self._prompts = [request.prompt.ids for request in requests]
        self._keys = [noise_key(strategy.seed, request.prompt.id, request.sample) for request in requests]
        self._draws = strategy.do_sample
        self._ranks = [request.sample for request in requests] if strategy.branches else None

    @property
    def remembers(self) -> bool:
        """Whether what a text's tokens were drawn from matters later."""
        return self._processors.state.updates

    @property
    def in_blocks(self) -> bool:
        """Whether several positions can be chosen at once: none depends on the tokens before."""
        return self._processors.reads_scores_only and self._ranks is None

    def warp(self, logits: Tensor, generated: Mapping[int, Sequence[int]]) -> list[Drawable]:
        """Return what the (R, V) logits of texts become; `generated` has each one's tokens, all as many."""
        return warp(self._processors, self._texts(generated), logits, list(generated))

    def choose(self, found: Sequence[Drawable], generated: Mapping[int, Sequence[int]], step: int) -> Tensor:
        """Return (R,) the tokens of texts at a step, of what `warp` returned for the same texts."""
        numbers = list(generated)
        tokens = torch.empty(len(numbers), dtype=torch.long, device=self._device)
        keys = [self._keys[number] for number in numbers]
        if (noise := self._processors.noise) is not None and self._draws:
            keys = noise.keys(self._texts(generated), keys)
        for rows, left, _ in found:
            index = torch.tensor(rows, device=self._device)
            if self._draws:
                tokens[index] = draw(
                    left, torch.tensor([keys[row] for row in rows], device=self._device), step
                )
                continue
            assert isinstance(left, Logits), "samplers are for sampling"
            if self._ranks is not None and step == 0:
                tokens[index] = tokens_of_rank(left.values, [self._ranks[numbers[row]] for row in rows])
            else:
                tokens[index] = left.values.argmax(-1)
        return tokens

    def _texts(self, generated: Mapping[int, Sequence[int]]) -> Texts:
        rows = [[*self._prompts[number], *tokens] for number, tokens in generated.items()]
        ids = pad_left(rows, self._pad, self._device)["input_ids"]
        lengths = [len(self._prompts[number]) for number in generated]
        return Texts(ids, lengths, max(lengths))

    def choose_block(self, logits: Tensor, step: int) -> Tensor:
        """Return (N,) the tokens of the first text at N steps in a row; for chains that are `in_blocks`."""
        count = len(logits)
        ids = torch.zeros((count, 1), dtype=torch.long, device=self._device)
        found = warp(self._processors, Texts(ids, [1] * count, 1), logits, range(count))
        keys = torch.tensor([key_of_step(self._keys[0], step + row) for row in range(count)])
        tokens = torch.empty(count, dtype=torch.long, device=self._device)
        for rows, left, _ in found:
            index = torch.tensor(rows)
            if self._draws:
                tokens[index.to(self._device)] = draw(left, keys[index].to(self._device), 0)
            else:
                assert isinstance(left, Logits), "samplers are for sampling"
                tokens[index.to(self._device)] = left.values.argmax(-1)
        return tokens

    def probabilities(self, found: Sequence[Drawable], logits: Tensor) -> Tensor:
        """Return (R, V) what tokens are drawn from; of a strategy that draws nothing, its choice alone."""
        only = found[0]
        unmoved = len(found) == 1 and only.rows == list(range(len(logits)))
        left = only.logits
        everything = left.values if unmoved and isinstance(left, Logits) else whole(found, logits)
        if everything.device.type == "mps":  # has no float64
            everything = everything.cpu()
        if self._draws:
            return everything.double().softmax(-1)
        return torch.nn.functional.one_hot(everything.argmax(-1), everything.shape[-1]).double()

    def note(self, found: Sequence[Drawable], numbers: Sequence[int], tokens: Tensor) -> None:
        """Tell the chain which tokens (R,) the texts go on with."""
        note_chosen(self._processors, found, numbers, tokens)

    def saved(self) -> Mapping[int, tuple[float, float] | None]:
        """Return what it remembers, for `restore`."""
        return self._processors.state.saved(range(len(self._prompts)))

    def restore(self, saved: Mapping[int, tuple[float, float] | None]) -> None:
        """Return to what it remembered."""
        self._processors.state.restore(saved)


def of_width(logits: Tensor, vocabulary: int) -> Tensor:
    """Return (R, V) logits over another vocabulary size: a model's padding, which no text contains."""
    missing = vocabulary - logits.shape[-1]
    if missing > 0:
        return torch.nn.functional.pad(logits, (0, missing), value=float("-inf"))
    return logits[..., :vocabulary]
