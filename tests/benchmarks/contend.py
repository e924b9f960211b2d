"""Contenders take turns in one process; what is told is the median, and the median of the ratios a turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """Seconds of each turn, by contender."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """The median of a contender's turns."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, other: str) -> float:
        """How much longer `name` takes than `other`: the median of the ratios turn by turn."""
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def contend(contenders: dict[str, Callable[[], object]], turns: int, warmup: int = 1) -> Times:
    """Let the contenders run in turn, `turns` times each after `warmup`; every other turn backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-warmup, turns):
        order = list(contenders) if turn % 2 == 0 else list(contenders)[::-1]
        for name in order:
            began = time.perf_counter()
            contenders[name]()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return Times(seconds)
