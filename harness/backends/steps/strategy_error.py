"""A strategy that fails by itself while others go on."""

from __future__ import annotations

from harness.decoding.strategy import Strategy


class StrategyError(Exception):
    """A strategy failed by itself, as by its processors; other strategies are not affected."""

    def __init__(self, strategy: Strategy, cause: Exception) -> None:
        super().__init__(str(cause))
        self.strategy = strategy
        self.cause = cause
