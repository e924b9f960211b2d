"""When the tokens of texts that are decoded together were there: one look at the clock a step."""

from __future__ import annotations

import time

from harness.store.records import Times


class Clock:
    """Notes the steps of one batch, from the moment it is made, which is when the batch's prefill begins.

    The clock tells seconds since the epoch but never goes back: the wall clock is read once.
    """

    def __init__(self) -> None:
        self._epoch = time.time() - time.perf_counter()
        self._started = self._now()
        self._steps: list[float] = []

    def step(self) -> None:
        """The host has the tokens of one more step."""
        self._steps.append(self._now())

    def times(self, tokens: int, batch: int) -> Times:
        """Of a text with as many tokens, chosen one a step from the first step on.

        Args:
            tokens: of the text.
            batch: texts that were decoded together.
        """
        return Times(self._started, self._steps[0], self._steps[tokens - 1], batch)

    def times_of_all(self, batch: int) -> Times:
        """Of a text that is known only once the last step is done, as the one that wins a search."""
        return self.times(len(self._steps), batch)

    def _now(self) -> float:
        return self._epoch + time.perf_counter()
