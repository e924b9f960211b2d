"""The section `timing` of a Point: what is timed, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.config.base import Choice, Natural, Positive

COST_KEYS = ("prompt_tokens", "min_seconds", "memory", "energy")
"""Keys of `Timing` that say how the cost of a model itself is measured."""


class Timing(Choice):
    """What is timed: one strategy after the other, with the loop a user would deploy; or the model itself."""

    enabled: bool = Field(True, description="measure latency; timing=off does not")
    prompts: Positive = Field(3, description="how many of the prompts are timed")
    repeats: Positive = Field(3, description="timed repetitions per prompt")
    warmup: Natural = Field(1, description="repetitions before the timed ones")
    batch_size: int = Field(1, ge=1, le=10_000, description="prompts decoded together")
    new_tokens: Positive = Field(16, description="tokens per repetition, end-of-text ignored")
    prompt_tokens: Positive | None = Field(
        None,
        description="null: each strategy is timed with the prompts; a number: what the model costs is "
        "measured, once for all strategies, with prompts of so many random tokens",
    )
    min_seconds: Annotated[float, Field(ge=0, le=1e6)] = Field(
        10.0, description="with prompt_tokens: repetitions go on for at least so long"
    )
    memory: bool = Field(True, description="with prompt_tokens: memory too, in a pass of its own")
    energy: Literal["auto", "none"] = Field(
        "auto", description="with prompt_tokens: auto: energy too, where NVML or RAPL counts it"
    )

    @property
    def times_strategies(self) -> bool:
        """Whether there is a latency pass for each strategy."""
        return self.enabled and self.prompt_tokens is None

    @property
    def measures_cost(self) -> bool:
        """Whether the cost of the model is measured."""
        return self.enabled and self.prompt_tokens is not None
