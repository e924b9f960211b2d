"""What a command spends at servers: prices, and a budget that is asked before each request."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError
from harness.prompts.prompt import Prompt

_PER_TURN = 32
"""Tokens that a chat template adds at most to a turn, in an upper bound."""


class BudgetError(HarnessError):
    """The next request might cost more than what is left."""


@dataclass(frozen=True)
class Price:
    """US dollars per prompt token, per output token, and per request."""

    prompt: float
    output: float
    request: float = 0.0

    def at_most(self, prompt: Prompt, new_tokens: int) -> float:
        """Return an upper bound of what an answer costs: a token has at least one byte."""
        size = len(prompt.text.encode("utf-8", "replace")) + _PER_TURN * (1 + len(prompt.turns))
        return self.request + self.prompt * size + self.output * new_tokens

    def of(self, usage: Mapping[str, Any]) -> float | None:
        """Return what an answer cost by its usage; None where that does not tell."""
        counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not all(isinstance(count, int) for count in counts):
            return None
        return self.request + self.prompt * int(counts[0] or 0) + self.output * int(counts[1] or 0)


def cost_of(usage: Mapping[str, Any], price: Price | None) -> float | None:
    """Return what an answer cost: what the server says, else by its price; None where neither is known."""
    cost = usage.get("cost")
    if isinstance(cost, int | float) and not isinstance(cost, bool):
        return float(cost)
    return None if price is None else price.of(usage)


class Spending:
    """What one command has spent; shared by all of its servers, asked from several threads.

    Args:
        budget: US dollars at most; None without a limit.
    """

    def __init__(self, budget: float | None) -> None:
        self._budget = budget
        self._spent = 0.0
        self._reserved = 0.0
        self._lock = threading.Lock()

    def reserve(self, most: float) -> None:
        """Set money aside for a request.

        Raises:
            BudgetError: not so much is left.
        """
        with self._lock:
            if self._budget is not None and self._spent + self._reserved + most > self._budget:
                spent = f"{self._spent:.4f} USD are spent and the next answer may cost {most:.4f}"
                cure = "raise it, and the same command goes on with what is missing"
                raise BudgetError(f"backend.budget_usd={self._budget:g}: {spent}; {cure}")
            self._reserved += most

    def settle(self, most: float, cost: float | None) -> None:
        """Replace what was set aside by what was spent; all of it where that is not known."""
        with self._lock:
            self._reserved -= most
            self._spent += most if cost is None else cost
