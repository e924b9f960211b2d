"""Choosing in vLLM's worker processes, where GPUs share a model: the same tokens, unrecorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.backends.backend import Request
from harness.backends.steps.recorder import RawStep, Recorder
from harness.backends.vllm.chooser import Chooser
from harness.backends.vllm.kept_token import Chosen
from harness.decoding.strategy import Strategy

REQUEST = "harness_request"
MODEL = "harness_model"
"""Keys of `SamplingParams.extra_args`: the request and the model, for processes that know neither."""


class Unrecorded(Recorder):
    """A recorder that keeps nothing."""

    def __init__(self) -> None:
        super().__init__(0)

    def observe(self, *_: Any, **__: Any) -> None:
        """Ignore what was chosen."""

    def end_step(self, raw: RawStep) -> None:
        """Ignore the step."""


class ChosenElsewhere:
    """What a processor in another process chooses with, made once requests come."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._strategies: dict[str, Strategy] = {}
        self.chosen: Chosen | None = None

    def begin(self, number: int, params: Any, tokens: list[int]) -> None:
        """Begin a text, or go on with it, whose tokens are in a list that vLLM keeps."""
        from harness.models.weightless import weightless

        request: Request | None = params.extra_args.get(REQUEST)
        if request is None:
            return
        # Requests come one by one: equal strategies are to be one again, since they choose together.
        strategy = self._strategies.setdefault(repr(request.strategy), request.strategy)
        request = replace(request, strategy=strategy)
        if self.chosen is None:
            model, files, dtype = params.extra_args[MODEL]
            loaded = weightless(model, files, dtype, self._device)
            self.chosen = Chosen(Chooser(loaded, Unrecorded()))
        known = self.chosen.chooser.texts.get(number)
        if known is not None and known.request == request:
            known.tokens = tokens
        else:
            self.chosen.chooser.add(number, request, tokens)
