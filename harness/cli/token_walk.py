"""The tokens that may follow a prompt: the model's logits after any continuation of it, and warped ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from harness.backends.hf.backend import HfBackend
from harness.backends.hf.forward import forward, read_texts
from harness.backends.steps.finite import check_finite
from harness.cli.guided_walk import GuidedWalk
from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.decoding.gumbel import draw, noise_key
from harness.decoding.own_checks import planned_processors
from harness.decoding.processors import Processors
from harness.decoding.sampler_chain import Drawable
from harness.decoding.texts import Texts
from harness.decoding.vocabulary import Vocabulary
from harness.decoding.warping import note_chosen, warp, whole
from harness.errors import ConfigError
from harness.models.end_of_turn import end_of_turn
from harness.models.load import LoadedModel
from harness.prompts.prompt import Prompt

_KEPT_BYTES = 256 * 2**20
_FEWEST_KEPT = 16
_MOST_STRATEGIES = 32


class TokenWalk:
    """A prompt on a loaded model, and continuations of it that may branch anywhere.

    Logits are kept by prefix, the least recently used ones dropped; of the latest prefix the KV cache is kept
    too, so that one more token is one small forward pass. Not for several threads at once.

    Attributes:
        prompt: what the continuations follow.
        eos_ids: tokens that end one.
        vocab_size: number of the logits.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prompt: Prompt,
        load_amateur: Callable[[str], LoadedModel] | None = None,
        kept_bytes: int = _KEPT_BYTES,
    ) -> None:
        """Test how the model is read right.

        Args:
            loaded: the model.
            prompt: what the continuations follow.
            load_amateur: loads the model that `decoding.amateur` names.
            kept_bytes: bound of the logits that are kept.

        Raises:
            HarnessError: no way of decoding is right with the model.
        """
        backend = HfBackend(loaded)
        self.prompt = prompt
        self.eos_ids = backend.token_ids.eos
        if prompt.chat and (end := end_of_turn(loaded.tokenizer)) is not None:
            self.eos_ids = (*self.eos_ids, end)
        self._loaded = loaded
        self._pad_id = backend.token_ids.pad
        self._caches = backend.modes.tree_is_right
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()
        self._held: tuple[tuple[int, ...], Any] | None = None  # a prefix of ids, and its KV cache
        self._strategies: OrderedDict[str, Processors] = OrderedDict()
        self._vocabulary = Vocabulary(loaded.tokenizer)
        self._guided = GuidedWalk(loaded, prompt, load_amateur)
        self.forward_passes = 0
        self.vocab_size = self.logits(()).shape[-1]

    @property
    def room(self) -> int | None:
        """How many tokens fit after the prompt; None where the model states no context length."""
        context = self._loaded.files.context_length
        return None if context is None else max(0, context - len(self.prompt.ids))

    def check_length(self, count: int) -> None:
        """Check that `count` tokens fit after the prompt.

        Raises:
            ConfigError: they do not.
        """
        if self.room is not None and count > self.room:
            context = self._loaded.files.context_length
            size = f"{len(self.prompt.ids)} tokens + {count} new ones > the model's {context}"
            raise ConfigError.of("", f"the prompt does not fit: {size}; go back, or use a shorter prompt")

    @torch.inference_mode()
    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Return the (1, V) float32 logits after the prompt and `tokens`.

        Raises:
            ConfigError: they are longer than the context.
            HarnessError: the logits are not finite.
        """
        key = tuple(tokens)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self.check_length(len(key))
        for length, logits in self._read(key):
            check_finite(logits, self._loaded, f"step {length}")
            self._keep(key[:length], logits)
        return self._kept[key]

    @torch.inference_mode()
    def warped(self, tokens: Sequence[int], decoding: Decoding) -> Tensor:
        """Return the (1, V) log-probabilities that a strategy draws from after the prompt and `tokens`."""
        processors = self._processors(decoding)
        if processors.remembers:
            # what a state was after each token; it begins anew with each walk
            processors.forget()
            for count, token in enumerate(tokens):
                found = self._warped(processors, tokens[:count])
                note_chosen(processors, found, [0], torch.tensor([token], device=self._loaded.device))
        return whole(self._warped(processors, tokens), self.logits(tokens)).log_softmax(-1)

    def _warped(self, processors: Processors, tokens: Sequence[int]) -> list[Drawable]:
        own = scores = self.logits(tokens)
        if processors.guidance is not None:
            effective = vars(processors.config)
            scores = self._guided.scores(processors.guidance, effective, scores, tokens)
        return warp(processors, self._texts(tokens), scores, [0], own)

    def _texts(self, tokens: Sequence[int]) -> Texts:
        ids = torch.tensor([[*self.prompt.ids, *tokens]], device=self._loaded.device)
        length = len(self.prompt.ids)
        return Texts(ids, [length], length)

    def close(self) -> None:
        """Free what was loaded beside the model."""
        self._guided.close()

    @torch.inference_mode()
    def choose(self, warped: Tensor, tokens: Sequence[int], decoding: Decoding, seed: int) -> int:
        """Return the token that a strategy takes after `tokens` of its (1, V) log-probabilities.

        The likeliest, or one drawn with the noise that all strategies share.
        """
        if not decoding.do_sample:
            return int(warped.argmax(-1))
        own, position = noise_key(seed, self.prompt.id, 0), len(tokens)
        if (noise := self._processors(decoding).noise) is not None:
            (own,) = noise.keys(self._texts(tokens), [own])
        return int(draw(warped, torch.tensor([own], device=warped.device), position))

    def _read(self, tokens: tuple[int, ...]) -> list[tuple[int, Tensor]]:
        """Read what is new; return (1, V) logits after `tokens` up to each length that was read."""
        self.forward_passes += 1
        model, device = self._loaded.model, self._loaded.device
        ids = (*self.prompt.ids, *tokens)
        if not self._caches:
            output = read_texts(model, torch.tensor([ids], device=device), keep=1).float()
            return [(len(tokens), output[:, -1])]
        prefix, cache = self._held if self._held is not None else ((), None)
        if len(prefix) >= len(ids) or ids[: len(prefix)] != prefix:
            prefix, cache = (), None
        self._held = None  # a cache that a failed pass has changed is of no use
        new_ids = torch.tensor([ids[len(prefix) :]], device=device)
        mask = torch.ones((1, len(ids)), dtype=torch.long, device=device)
        output, cache = forward(model, new_ids, mask, cache)
        self._held = (ids, cache)
        first = max(len(prefix) + 1, len(self.prompt.ids), len(ids) - self._most_kept(output.shape[-1]) + 1)
        ends = range(first, len(ids) + 1)
        return [(end - len(self.prompt.ids), output[:, end - len(prefix) - 1]) for end in ends]

    def _keep(self, tokens: tuple[int, ...], logits: Tensor) -> None:
        # A copy: a slice would keep the logits of all positions of its pass.
        self._kept[tokens] = logits.clone()
        self._kept.move_to_end(tokens)
        while len(self._kept) > self._most_kept(logits.shape[-1]):
            self._kept.popitem(last=False)

    def _most_kept(self, vocab_size: int) -> int:
        return max(_FEWEST_KEPT, self._kept_bytes // (4 * vocab_size))

    def _processors(self, decoding: Decoding) -> Processors:
        """Return the strategy's processors, made once for the latest strategies."""
        key = decoding.model_dump_json()
        if key not in self._strategies:
            own = planned_processors(decoding.processors or ()).fields
            config = GenerationConfig(
                **{**effective_decoding(decoding), **own},
                eos_token_id=list(self.eos_ids) or None,
                pad_token_id=self._pad_id,
            )
            loaded = self._loaded
            self._strategies[key] = Processors(loaded.model, config, loaded.device, self._vocabulary)
            if len(self._strategies) > _MOST_STRATEGIES:
                self._strategies.popitem(last=False)
        return self._strategies[key]
