"""When the tokens of sequences that are decoded together were generated: the time is read once a step."""

from __future__ import annotations

import time

from harness.store.records import Times


class Clock:
    """Records the times of one batch's steps, from its creation, which is when the batch's prefill begins.

    Times are seconds since the epoch but never decrease: the wall clock is read once.
    """

    def __init__(self) -> None:
        self._epoch = time.time() - time.perf_counter()
        self._started = self._now()
        self._steps: list[float] = []

    def step(self) -> None:
        """Record that the host has the tokens of one more step."""
        self._steps.append(self._now())

    def times(self, tokens: int | None, batch: int) -> Times:
        """Return the times of a sequence of `batch` that were decoded together, one token a step.

        `tokens` are the sequence's; None for one that is known only after the last step, such as a beam.
        """
        last = self._steps[-1] if tokens is None else self._steps[tokens - 1]
        return Times(self._started, self._steps[0], last, batch)

    def _now(self) -> float:
        return self._epoch + time.perf_counter()
