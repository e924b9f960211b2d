"""What a run must show: one entry of `expect`, checked after the run against the stored results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from harness.config.base import Natural, Section


class Expectation(Section):
    """An expectation about the points and prompts that it names; about all of them where it names none.

    One entry may expect several things; each is checked separately.
    """

    point: str | None = Field(None, description="the label of a point; `*` matches anything")
    prompt: str | None = Field(None, description="the id of a prompt")
    sample: Natural = Field(0, description="index of the prompt's sample")
    prompt_ids: tuple[Natural, ...] | None = Field(None, description="the prompt's token ids")
    prompt_ids_start: tuple[Natural, ...] | None = Field(None, description="the prompt's first token ids")
    output: str | None = Field(None, description="the output, character for character")
    output_start: str | None = Field(None, description="what the output starts with")
    output_ids: tuple[Natural, ...] | None = Field(None, description="the generated token ids")
    top: Mapping[str, Annotated[float, Field(ge=0, le=1)]] | None = Field(
        None, description="the most likely tokens at `position` with their raw probabilities"
    )
    position: Natural = Field(0, description="the step that `top` is about; 0 is the first")
    tolerance: float = Field(0.005, ge=0, le=1, description="allowed error of a probability in `top`")
    metric: str | None = Field(None, description="a metric of the point, as in `text/distinct_2`")
    min: float | None = Field(None, description="lower bound of the metric")
    max: float | None = Field(None, description="upper bound of the metric")


ASKED = ("prompt_ids", "prompt_ids_start", "output", "output_start", "output_ids", "top", "metric")
"""The fields that expect something; an entry sets at least one of them."""


OF_A_SAMPLE = ("output", "output_start", "output_ids", "top")
"""Those of them that are about one sample; the others are about a prompt or the point."""


def matches(pattern: str | None, label: str) -> bool:
    """Return whether an expectation with the point `pattern` is about the point with this label."""
    return pattern is None or re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), label) is not None
