"""Rules on what is timed: the strategies, or the model itself."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.no_effect import NoEffect
from harness.config.point import Backend
from harness.config.timing_section import COST_KEYS, Timing
from harness.config.validation import format_value
from harness.errors import Mistake


def timing_rules(timing: Timing) -> Iterator[Mistake]:
    """Yield what is wrong with the keys of `timing`, or has no effect."""
    if not timing.enabled:
        return
    if timing.new_tokens < 2:
        cure = "the time between tokens needs at least 2, or use timing=off"
        yield Mistake(f"timing.new_tokens={timing.new_tokens}", cure)
    unused: tuple[str, ...] = COST_KEYS
    why = f"timing={timing.name} times the strategies; use timing=llm_perf"
    if timing.measures_cost:
        unused = ("prompts",)
        why = "timing.prompt_tokens says how long random prompts are; leave it out"
    for key in unused:
        value = getattr(timing, key)
        if value != Timing.model_fields[key].default:
            yield NoEffect(f"timing.{key}={format_value(value)}", f"no effect, {why}")


def cost_of_a_model(timing: Timing, backend: Backend) -> Iterator[Mistake]:
    """Yield that the cost of a model is that of one that transformers runs."""
    if timing.measures_cost and backend.kind != "hf":
        message = f"runs the model with transformers, which backend={backend.name} does not; use timing=quick"
        yield Mistake(f"timing={timing.name}", message)
