"""What comes out of vLLM's engine while it runs: tokens, when they came, what ended each text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.backends.backend import Request
from harness.backends.steps.finished import end_of
from harness.decoding.detokenizer import Detokenizer
from harness.store.records import FinishReason, Times


@dataclass
class Output:
    """One text: its tokens, the seconds since the epoch when each came, vLLM's log-probabilities if any."""

    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    logprobs: list[Mapping[int, Any]] = field(default_factory=list)
    reason: FinishReason | None = None


class Outputs:
    """Collects the outputs of some requests; `collect` is an `engine_run.OnStep`."""

    def __init__(
        self,
        requests: Sequence[Request],
        detokenizer: Detokenizer,
        on_tokens: Callable[[int], None] = lambda _: None,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """`on_tokens` is called after each step with the tokens it gave; `give_up` ends all texts."""
        self._requests, self._detokenizer = requests, detokenizer
        self._on_tokens, self._give_up = on_tokens, give_up
        self._epoch = time.time() - time.perf_counter()
        self.start()
        self.texts = [Output() for _ in requests]

    def start(self) -> None:
        """Note that the work begins now."""
        self.started = self._now()

    def collect(self, new: Mapping[int, Any]) -> list[int]:
        """Take what is new of each text; return those that ended."""
        now = self._now()
        ended, count = [], 0
        for number, output in new.items():
            found = output.outputs[0]
            text, request = self.texts[number], self._requests[number]
            for token in found.token_ids:
                text.tokens.append(int(token))
                text.times.append(now)
            text.logprobs += found.logprobs or ()
            count += len(found.token_ids)
            if found.token_ids:
                ids = request.prompt.ids
                text.reason = end_of(request.strategy, ids, text.tokens, self._detokenizer)
            if text.reason is not None:
                ended.append(number)
        self._on_tokens(count)
        return list(range(len(self.texts))) if self._give_up() else ended

    def times(self, number: int, batch: int) -> Times:
        """Return when a text was generated, in a batch of so many."""
        times = self.texts[number].times
        return Times(self.started, times[0], times[-1], batch)

    def _now(self) -> float:
        return self._epoch + time.perf_counter()
