"""The strategies that replay supports: a temperature, and truncations that keep the likeliest tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.effective import FIXED, NEUTRAL, decoding_fields
from harness.config.structure import STRUCTURES, shortened
from harness.config.validation import format_value
from harness.errors import ConfigError, Mistake

SUPPORTED = (
    "do_sample", "temperature", "top_n_sigma", "top_k", "top_p", "min_p", "epsilon_cutoff", "eta_cutoff",
    "top_a", "p_less",
)  # fmt: skip
"""Fields that may have any value; all others must be neutral, except those of beams, of no effect alone."""

_WHY_NOT: Mapping[str, str] = {
    "num_beams": "beams follow sequences that were not recorded",
    "penalty_alpha": "the hidden states of its candidates were not recorded",
    "typical_p": "it may remove the likeliest tokens and keep tokens that were not recorded",
    "stochastic_beams": "its samples are of a search over many texts",
    "generate": "it chooses the tokens by itself",
    **dict.fromkeys(STRUCTURES, "it allows tokens that were not recorded"),
    "top_h": "it needs the hundred likeliest tokens",
}


@dataclass(frozen=True)
class Warp:
    """What a supported strategy does to the logits.

    Attributes:
        draws: whether tokens are sampled. If not, the likeliest is chosen, and the other fields are neutral.
        temperature: divisor of the logits.
        top_k: 0 for none.
        top_p: 1 for none.
        min_p, epsilon, eta: 0 for none.
        n_sigma, top_a: 0 for none.
        p_less: 0 for none, 1 for the sum of squares, 2 for its normalised form.
    """

    draws: bool
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    epsilon: float = 0.0
    eta: float = 0.0
    n_sigma: float = 0.0
    top_a: float = 0.0
    p_less: int = 0

    @property
    def truncates(self) -> bool:
        """Whether it may remove tokens."""
        return self != Warp(self.draws, self.temperature)


def warp_of(effective: Mapping[str, Any]) -> Warp:
    """Return the warp of a strategy, from its effective GenerationConfig fields.

    Raises:
        ConfigError: replay does not support the strategy; names each field that it does not support.
    """
    mistakes = []
    for name, neutral in {**FIXED, **NEUTRAL}.items():
        value = effective.get(name, neutral)
        if name not in SUPPORTED and name not in decoding_fields("beam") and value != neutral:
            reason = f" ({_WHY_NOT[name]})" if name in _WHY_NOT else ""
            message = f"replay does not support it{reason}; it supports greedy and {', '.join(SUPPORTED[1:])}"
            shown = shortened(value) if name in STRUCTURES else format_value(value)
            mistakes.append(Mistake(f"decoding.{name}={shown}", message))
    if mistakes:
        raise ConfigError(mistakes)
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
        n_sigma=float(effective.get("top_n_sigma", 0.0)),
        top_a=float(effective.get("top_a", 0.0)),
        p_less={False: 0, True: 1, "norm": 2}[effective.get("p_less", False)],
    )


def supported_warp(effective: Mapping[str, Any]) -> Warp | None:
    """Return the warp of a strategy; None if replay does not support the strategy."""
    try:
        return warp_of(effective)
    except ConfigError:
        return None


def is_stricter(new: Warp, old: Warp) -> bool:
    """Return whether `new` keeps no token that `old` removed, except tokens that tie at the edge of top_p.

    True if each truncation is at least as strict as the old one and sees the same scores, that is, the same
    temperature. A smaller set has less mass, so the mass before a token is a larger share of it, and top_p
    only removes more; min_p is relative to the likeliest token, which stays. Cutoffs that depend on the set
    (epsilon, eta, top_n_sigma, top_a, p_less) may keep more as it gets smaller: the old one must have none.
    """
    absolute = old.epsilon or old.eta or old.n_sigma or old.top_a or old.p_less
    if new.temperature != old.temperature or absolute:
        return False
    stricter_k = not old.top_k or 0 < new.top_k <= old.top_k
    # Equal cutoffs see sums and quotients that are rounded in different ways: they must differ clearly,
    # unless everything before them is the same arithmetic.
    stricter_p = old.top_p >= 1 or new.top_p < old.top_p
    same_before = new.top_k == old.top_k and new.top_p >= 1 and old.top_p >= 1
    stricter_m = not old.min_p or new.min_p > old.min_p * 1.001 or (same_before and new.min_p == old.min_p)
    return stricter_k and stricter_p and stricter_m
