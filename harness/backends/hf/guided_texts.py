"""Guidance in loops of stock `generate`, whose texts stay in their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.backends.backend import Request
from harness.backends.hf.decoding_method import GenerateMode
from harness.backends.hf.forward import forward, read_texts
from harness.backends.hf.guided_logits import GuidedRow, Layers, SecondOf, with_guidance
from harness.backends.hf.padded_batch import pad_left
from harness.backends.steps.recorder import RawStep
from harness.decoding.guidance import ContrastiveDecoding, Dola, Guidance
from harness.models.load import LoadedModel


@dataclass
class _Lane:
    """Some of the texts, read together: their mask and cache so far."""

    texts: list[int]
    mask: Tensor
    positions: Tensor
    ids: Tensor
    cache: Any = field(default=None)


class SecondTexts:
    """The texts of a batch after other prompts, or read by another model, a token a step."""

    def __init__(self, loaded: LoadedModel, prompts: Sequence[tuple[int, ...]], pad: int, mode: GenerateMode):
        """`mode` is how the model reads batches right; the prompts are one a text."""
        self._loaded, self._use_cache = loaded, mode.use_cache
        self._lanes = []
        for texts in mode.batches([len(ids) for ids in prompts]):
            inputs = pad_left([prompts[text] for text in texts], pad, loaded.device)
            mask = inputs["attention_mask"]
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            self._lanes.append(_Lane(texts, mask, positions, inputs["input_ids"]))

    def logits(self, tokens: Tensor | None) -> Tensor:
        """Return (R, V) float32 logits of each text's next token; `tokens` (R,) are those chosen last."""
        found: dict[int, Tensor] = {}
        for lane in self._lanes:
            if tokens is not None:
                new = tokens[torch.tensor(lane.texts, device=tokens.device)][:, None]
                lane.mask = torch.cat([lane.mask, torch.ones_like(new)], dim=1)
                lane.positions = lane.positions[:, -1:] + 1
                lane.ids = new if self._use_cache else torch.cat([lane.ids, new], dim=1)
            if self._use_cache:
                arguments = {"position_ids": lane.positions, "logits_to_keep": 1}
                logits, lane.cache = forward(self._loaded.model, lane.ids, lane.mask, lane.cache, **arguments)
            else:
                logits = read_texts(self._loaded.model, lane.ids, keep=1).float()
            found |= zip(lane.texts, logits[:, -1], strict=True)
        return torch.stack([found[text] for text in range(len(found))])


class GuidedTexts:
    """What a guided strategy sees of a batch of texts, step by step; `watching` while they are generated."""

    def __init__(
        self,
        loaded: LoadedModel,
        guidance: Guidance,
        requests: Sequence[Request],
        mode: GenerateMode,
        amateur: Callable[[str], LoadedModel] | None,
    ) -> None:
        """Take requests of one strategy; `mode` is how the model reads batches, `amateur` as in `Runtime`."""
        self._model, self._guidance = loaded.model, guidance
        self._layers = Layers(loaded, [guidance])
        self._hidden: Tensor | None = None
        self._second: SecondTexts | None = None
        pad = requests[0].strategy.pad_token_id
        if isinstance(guidance, ContrastiveDecoding):
            assert amateur is not None, "contrastive decoding needs an amateur"
            prompts = [request.prompt.ids for request in requests]
            self._second = SecondTexts(amateur(guidance.amateur), prompts, pad, mode)
        elif not isinstance(guidance, Dola):
            self._second = SecondTexts(loaded, [request.second_prompt for request in requests], pad, mode)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See the hidden states of the model's forward passes, where the guidance needs them."""
        if self._second is not None:
            yield
            return

        def ask(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
            return arguments, named | {"output_hidden_states": True}

        def keep(_: Any, arguments: tuple[Any, ...], output: Any) -> None:
            states = [output.hidden_states[layer][:, -1] for layer in self._layers.wanted]
            self._hidden = torch.stack(states, dim=1)

        hooks = (
            self._model.register_forward_pre_hook(ask, with_kwargs=True),
            self._model.register_forward_hook(keep),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __call__(self, raw: RawStep, tokens: Tensor | None) -> tuple[RawStep, list[int]]:
        """Return the step with what the texts see, and where each of them finds it.

        `tokens` (R,) are those chosen last; None at the first step.
        """
        second_of = self._second_of(tokens)
        rows = [GuidedRow(self._guidance, row, row) for row in range(len(raw.logits.values))]
        raw, place = with_guidance(raw, rows, second_of)
        return raw, [place[row] for row in rows]

    def scores(self, logits: Tensor, tokens: Tensor | None) -> Tensor:
        """Return (R, V) what the texts see instead of their logits, without what is recorded."""
        every = torch.arange(len(logits), device=logits.device)
        second: Any = self._second_of(tokens)(self._guidance, every, every)
        return self._guidance(logits.log_softmax(-1), second)

    def _second_of(self, tokens: Tensor | None) -> SecondOf:
        """Read a step of the second texts; return what the guidance takes of them."""
        logits = None if self._second is None else self._second.logits(tokens)

        def second_of(guidance: Guidance, rows: Tensor, seconds: Tensor) -> Tensor:
            if isinstance(guidance, Dola):
                assert self._hidden is not None, "texts are generated within `watching`"
                return self._layers.log_probs(guidance, self._hidden[rows])
            assert logits is not None
            second = logits[seconds]
            return second if isinstance(guidance, ContrastiveDecoding) else second.log_softmax(-1)

        return second_of
