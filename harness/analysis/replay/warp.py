"""What replay knows of a strategy: a temperature and truncations that keep the likeliest tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.effective import FIXED, NEUTRAL
from harness.config.validation import format_value
from harness.errors import ConfigError

KNOWN = ("do_sample", "temperature", "top_k", "top_p", "min_p", "epsilon_cutoff", "eta_cutoff")
"""The fields that replay knows; every other one must be neutral."""

# Of no effect on a strategy that picks one token a step.
_IDLE = ("length_penalty", "early_stopping")

_WHY = {
    "num_beams": "beams follow texts that were not kept",
    "typical_p": "it may cut the likeliest tokens and keep some that were not recorded",
    "top_h": "it needs the hundred likeliest tokens",
}


@dataclass(frozen=True)
class Warp:
    """A strategy that replay knows.

    Attributes:
        draws: whether luck chooses; else the likeliest token is taken, and the rest is neutral.
        temperature: what the logits are divided by.
        top_k: 0 for none.
        top_p: 1 for none.
        min_p, epsilon, eta: 0 for none.
    """

    draws: bool
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    epsilon: float = 0.0
    eta: float = 0.0

    @property
    def truncates(self) -> bool:
        """Whether it cuts any token."""
        return self != Warp(self.draws, self.temperature)

    @property
    def neutral(self) -> bool:
        """Whether the warped distribution is the raw one."""
        return self == Warp(self.draws)


def warp_of(effective: Mapping[str, Any]) -> Warp:
    """What a strategy does, from its effective GenerationConfig fields.

    Raises:
        ConfigError: replay does not know it; each field that it does not know is a mistake.
    """
    unknown = [
        name
        for name, neutral in {**FIXED, **NEUTRAL}.items()
        if name not in KNOWN and name not in _IDLE and effective.get(name, neutral) != neutral
    ]
    if unknown:
        known = ", ".join(KNOWN[1:])
        raise ConfigError(
            mistake
            for name in unknown
            for mistake in ConfigError.of(
                f"decoding.{name}={format_value(effective[name])}",
                f"replay does not know it{_because(name)}; it knows greedy and {known}",
            ).mistakes
        )
    if not effective["do_sample"]:
        return Warp(draws=False)
    return Warp(
        draws=True,
        temperature=float(effective["temperature"]),
        top_k=int(effective["top_k"] or 0),
        top_p=float(effective["top_p"]),
        min_p=float(effective["min_p"] or 0.0),
        epsilon=float(effective["epsilon_cutoff"]),
        eta=float(effective["eta_cutoff"]),
    )


def known_warp(effective: Mapping[str, Any]) -> Warp | None:
    """The same; None for a strategy that replay does not know."""
    try:
        return warp_of(effective)
    except ConfigError:
        return None


def nested(new: Warp, old: Warp) -> bool:
    """Whether `new` keeps no token that `old` cut, but for tokens that tie where top_p cuts.

    True where each truncation is at least as strict as the old one and sees the same scores, the same
    temperature that is. A smaller set has less mass, so the mass before a token is a larger share of it and
    top_p only cuts more; min_p is relative to the likeliest token, which stays. Cutoffs that are absolute
    (epsilon, eta) grow laxer as a set shrinks, so the old one must have none.
    """
    if new.temperature != old.temperature or old.epsilon or old.eta:
        return False
    stricter_k = not old.top_k or 0 < new.top_k <= old.top_k
    # Equal cutoffs see sums and quotients that are rounded in different ways: they must differ clearly,
    # unless everything before them is the same arithmetic.
    stricter_p = old.top_p >= 1 or new.top_p < old.top_p
    same_before = new.top_k == old.top_k and new.top_p >= 1 and old.top_p >= 1
    stricter_m = not old.min_p or new.min_p > old.min_p * 1.001 or (same_before and new.min_p == old.min_p)
    return stricter_k and stricter_p and stricter_m


def unlikeness(a: Warp, b: Warp) -> float:
    """How unlike two strategies are, to try the likeliest first; of no meaning but its order."""
    chance = (a.draws and a.top_k != 1) != (b.draws and b.top_k != 1)
    cuts = [
        (1 / (a.top_k or math.inf), 1 / (b.top_k or math.inf)),
        (a.top_p, b.top_p),
        (a.min_p, b.min_p),
        (a.epsilon, b.epsilon),
        (a.eta, b.eta),
    ]
    warmth = abs(math.log(a.temperature / b.temperature))
    return 100 * chance + 10 * warmth + sum(abs(one - other) for one, other in cuts)


def _because(name: str) -> str:
    return f" ({_WHY[name]})" if name in _WHY else ""
