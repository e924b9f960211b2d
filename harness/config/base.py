"""The building blocks of a Point: frozen, strict sections that are closed to unknown keys."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

LARGEST = 2**31 - 1
"""The largest count: what tables, tensors and `range` take everywhere."""
SMALLEST_REAL, LARGEST_REAL = 1e-15, 1e15
"""Sizes within which products of two numbers and a logit are finite in 32-bit floats, and no zero."""
SIZE = "size"
"""The type of pydantic's error for a `Real` of another size."""


def _of_sensible_size(value: float) -> float:
    if value and not SMALLEST_REAL <= abs(value) <= LARGEST_REAL:
        raise PydanticCustomError(SIZE, "its size must be from 1e-15 to 1e15")
    return value


Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Natural = Annotated[int, Field(ge=0, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
SENSIBLE_SIZE = AfterValidator(_of_sensible_size)
"""Leaves room to compute with a number."""
PositiveReal = Annotated[float, Field(gt=0), SENSIBLE_SIZE]


def _listed(value: Any) -> Any:
    if value is None:
        return value
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


_Item = TypeVar("_Item")
Listed = Annotated[tuple[_Item, ...], BeforeValidator(_listed)]
"""A list, of which a single value may be given by itself."""


class Section(BaseModel):
    """A frozen section of a Point; unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class Choice(Section):
    """A section that is chosen by name from a config group."""

    name: str = Field(description="the choice in the config group, as in `model=NAME`")
