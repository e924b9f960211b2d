"""What the samplers of a strategy are set to, and in which order they act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from harness.config.decoding import SamplerName
from harness.config.effective import NEUTRAL
from harness.config.sampler_order import ACTIVATED_BY, sampler_order

Step = SamplerName | Literal["dynamic_temperature", "mirostat_1"]
"""A step of a chain: a sampler, where it does one thing; else one of the two things that it does."""

_SCALES: frozenset[SamplerName] = frozenset({"temperature", "smoothing", "xtc", "adaptive_p", "skew"})
"""Samplers that change probabilities and remove no token; all others remove some."""

PARAMETERS = (
    "temperature", "dynatemp_range", "dynatemp_exponent", "edt_theta", "edt_base",
    "smoothing_factor", "smoothing_curve", "top_n_sigma", "top_h", "top_k", "top_p", "min_p", "typical_p",
    "epsilon_cutoff", "eta_cutoff", "tfs", "top_a", "p_less", "xtc_probability", "xtc_threshold",
    "mirostat_mode", "mirostat_mu", "adaptive_goal", "skew",
)  # fmt: skip
"""Columns of a batch's parameters. `mirostat_mu` and `adaptive_goal` are states, which differ by text."""


@dataclass(frozen=True)
class SamplerSettings:
    """The samplers of a strategy.

    Attributes:
        order: the samplers that act, first one first.
        parameters: the value of each of PARAMETERS, neutral where it does not matter.
    """

    order: tuple[SamplerName, ...]
    parameters: tuple[float, ...]

    @cached_property
    def cuts(self) -> tuple[SamplerName, ...]:
        """Those of the samplers that remove tokens."""
        return tuple(name for name in self.order if name not in _SCALES)

    @cached_property
    def before_cuts(self) -> tuple[SamplerName, ...]:
        """The samplers that act on the whole vocabulary: those before the first that removes tokens."""
        return self.order[: self.order.index(self.cuts[0])] if self.cuts else self.order

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The samplers by what they do here."""
        values = dict(zip(PARAMETERS, self.parameters, strict=True))
        its: dict[SamplerName, Step] = {}
        if values["dynatemp_range"] or values["edt_theta"]:
            its["temperature"] = "dynamic_temperature"
        if values["mirostat_mode"] == 1:
            its["mirostat"] = "mirostat_1"
        return tuple(its.get(name, name) for name in self.order)

    @cached_property
    def divides_only(self) -> bool:
        """Whether nothing but a fixed temperature comes before the first cut."""
        return self.steps[: len(self.before_cuts)] in ((), ("temperature",))


def sampler_settings(effective: Mapping[str, Any]) -> SamplerSettings | None:
    """Return the samplers of a strategy that draws from one row; None where there are none.

    `effective` has the fields that act (`effective_decoding`). With beams the warpers of transformers keep at
    least two tokens, and are applied by it.
    """
    if not effective["do_sample"] or effective["num_beams"] > 1:
        return None
    order = sampler_order(effective)
    if not order:
        return None
    values = {name: effective.get(name, NEUTRAL.get(name)) for name in PARAMETERS}
    values["p_less"] = {False: 0, True: 1, "norm": 2}[effective.get("p_less", False)]
    numbers = tuple(0.0 if value is None else float(value) for value in values.values())
    return SamplerSettings(order, numbers)


def neutral_samplers(effective: Mapping[str, Any]) -> dict[str, Any]:
    """Return GenerationConfig's fields of samplers, neutral: with them only what comes before is left."""
    fields = {field for fields in ACTIVATED_BY.values() for field in fields}
    return {name: NEUTRAL[name] for name in sorted(fields) if name in effective}
