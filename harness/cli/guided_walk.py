"""What a guided strategy sees after a prompt and any continuation of it, instead of the model's logits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.backends.hf.forward import forward_layers, read_texts
from harness.backends.hf.guided_logits import Layers
from harness.decoding.guidance import ContrastiveDecoding, Dola, Guidance
from harness.models.load import LoadedModel, free
from harness.prompts.prompt import Prompt
from harness.prompts.second_prompt import second_prompts

_MOST_KEPT = 64


class GuidedWalk:
    """Reads second prompts, amateurs and layers after a walk's tokens, a whole text at a time."""

    def __init__(
        self, loaded: LoadedModel, prompt: Prompt, load_amateur: Callable[[str], LoadedModel] | None
    ) -> None:
        """`load_amateur` loads the model that `decoding.amateur` names."""
        self._loaded, self._prompt, self._load_amateur = loaded, prompt, load_amateur
        self._amateurs: dict[str, LoadedModel] = {}
        self._kept: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()

    def scores(
        self, guidance: Guidance, effective: Mapping[str, Any], logits: Tensor, tokens: Sequence[int]
    ) -> Tensor:
        """Return the (1, V) scores of a strategy after the prompt and `tokens`; `logits` are the model's.

        Raises:
            ConfigError: the prompt lacks what the strategy needs, or its amateur cannot be used.
        """
        return guidance(logits.log_softmax(-1), self._second(guidance, effective, tuple(tokens)))

    def close(self) -> None:
        """Free the amateurs."""
        for loaded in self._amateurs.values():
            free(loaded)
        self._amateurs.clear()

    def _second(self, guidance: Guidance, effective: Mapping[str, Any], tokens: tuple[int, ...]) -> Tensor:
        key: tuple[Any, ...]
        if isinstance(guidance, Dola):
            key = (guidance, tokens)
            return self._once(key, lambda: self._layers(guidance, (*self._prompt.ids, *tokens)))
        if isinstance(guidance, ContrastiveDecoding):
            loaded = self._amateur(guidance.amateur)
            key = (guidance.amateur, tokens)
            return self._once(key, lambda: _read(loaded, (*self._prompt.ids, *tokens)))
        files, tokenizer = self._loaded.files, self._loaded.tokenizer
        found = second_prompts([self._prompt], effective, tokenizer, files.id, files.context_length)
        ids = (*found[self._prompt.id], *tokens)
        return self._once((ids,), lambda: _read(self._loaded, ids).log_softmax(-1))

    def _layers(self, guidance: Dola, ids: tuple[int, ...]) -> Tensor:
        layers = Layers(self._loaded, [guidance])
        text = torch.tensor([ids], device=self._loaded.device)
        model = self._loaded.model
        _, hidden = forward_layers(model, text, torch.ones_like(text), None, layers.wanted)
        return layers.log_probs(guidance, hidden)

    def _amateur(self, name: str) -> LoadedModel:
        if name not in self._amateurs:
            assert self._load_amateur is not None, "this walk was begun without amateurs"
            self._amateurs[name] = self._load_amateur(name)
        return self._amateurs[name]

    def _once(self, key: tuple[Any, ...], read: Callable[[], Tensor]) -> Tensor:
        if key not in self._kept:
            self._kept[key] = read()
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]


def _read(loaded: LoadedModel, ids: Sequence[int]) -> Tensor:
    """Return the (1, V) float32 logits after a whole text."""
    text = torch.tensor([ids], device=loaded.device)
    return read_texts(loaded.model, text, keep=1).float()[:, -1]
