"""What a run must show: one entry of `expect`, checked after the run against what the store holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from harness.config.base import Natural, Part


class Expectation(Part):
    """One thing expected of the points and prompts that it names; all of them where it names none.

    Several things may be asked in one entry; each is checked by itself.
    """

    point: str | None = Field(None, description="the label of a point; `*` stands for anything")
    prompt: str | None = Field(None, description="the id of a prompt")
    sample: Natural = Field(0, description="which of the prompt's samples")
    prompt_ids: tuple[Natural, ...] | None = Field(None, description="the prompt's token ids")
    prompt_ids_start: tuple[Natural, ...] | None = Field(None, description="what those begin with")
    output: str | None = Field(None, description="the text made, character for character")
    output_start: str | None = Field(None, description="what the text made begins with")
    output_ids: tuple[Natural, ...] | None = Field(None, description="the generated token ids")
    top: Mapping[str, Annotated[float, Field(ge=0, le=1)]] | None = Field(
        None, description="the likeliest tokens at `position` with their raw probabilities"
    )
    position: Natural = Field(0, description="the step that `top` speaks of; 0 is the first")
    tolerance: float = Field(0.005, ge=0, le=1, description="how far a probability of `top` may be off")
    metric: str | None = Field(None, description="a metric of the point, as in `text/distinct_2`")
    min: float | None = Field(None, description="the least that the metric may be")
    max: float | None = Field(None, description="the most that the metric may be")


ASKED = ("prompt_ids", "prompt_ids_start", "output", "output_start", "output_ids", "top", "metric")
"""The fields that ask something; an expectation has one of them at least."""


def matches(pattern: str | None, label: str) -> bool:
    """Whether an expectation that names `pattern` speaks of the point with this label."""
    return pattern is None or re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), label) is not None
