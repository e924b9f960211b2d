"""What acts on the scores that the samplers leave: the user's own processors, then a watermark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from harness.config.watermark_kinds import mark_settings, watermarks_of
from harness.decoding.green_lists import GreenBias
from harness.decoding.keyed_noise import KeyedNoise
from harness.decoding.own_processors import OwnProcessors
from harness.decoding.synthid import SynthId
from harness.decoding.texts import Texts

Mark = Callable[[Texts, Tensor], Tensor]


class AfterSamplers:
    """The last of what a strategy makes of the logits, as transformers has its watermarks."""

    def __init__(self, own: OwnProcessors, effective: Mapping[str, Any]) -> None:
        """`own` are the user's processors of this place."""
        self._own, self._mark = own, _mark(effective)

    def __bool__(self) -> bool:
        return bool(self._own) or self._mark is not None

    def __call__(self, texts: Texts, scores: Tensor) -> Tensor:
        """Return (R, V) scores; `scores` themselves are not changed."""
        scores = self._own(texts, scores)
        return scores if self._mark is None else self._mark(texts, scores)

    @property
    def remember(self) -> bool:
        """Whether anything is held from step to step."""
        return self._own.remember

    def forget(self) -> None:
        """Begin all texts anew."""
        self._own.forget()


def _mark(effective: Mapping[str, Any]) -> Mark | None:
    """Return what a watermark does to scores; None without one, and where it changes the noise alone."""
    for name in watermarks_of(effective):
        settings = mark_settings(effective, name)
        if name == "kgw":
            return GreenBias(settings)
        if name == "synthid":
            return SynthId(settings)
    return None


def keyed_noise(effective: Mapping[str, Any]) -> KeyedNoise | None:
    """Return the noise of a Gumbel watermark; None without one."""
    if "gumbel" not in watermarks_of(effective):
        return None
    return KeyedNoise(mark_settings(effective, "gumbel"))
