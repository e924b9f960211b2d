"""The building blocks of a Point: frozen, strict sections that are closed to unknown keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A frozen section of a Point; unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class Choice(Section):
    """A section that is chosen by name from a config group."""

    name: str = Field(description="the choice in the config group, as in `model=NAME`")
