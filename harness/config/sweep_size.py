"""How many values an override gives and how many points that makes, counted before any of them is made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MOST_POINTS = 10_000
"""The most points of a sweep: they are planned, compared and shown as a whole."""


def values_mistake(override: Override, choices: Mapping[str, Sequence[str]]) -> Mistake | None:
    """Return what is wrong with the number of values that an override gives; None where one or more is."""
    text = override.input_line or ""
    try:
        count = value_count(override, choices)
    except ValueError as error:
        return Mistake(text, str(error))
    if count == 0:
        return Mistake(text, "gives no value; give one or more")
    return _too_many(text, count)


def check_product(overrides: Iterable[Override], choices: Mapping[str, Sequence[str]]) -> None:
    """Check that the product of all values is a sweep that can be run.

    Raises:
        ConfigError: it has too many points.
    """
    counts = {override.input_line or "": value_count(override, choices) for override in overrides}
    swept = ", ".join(text for text, count in counts.items() if count > 1)
    check_size(swept, math.prod(counts.values()))


def check_size(text: str, count: int) -> None:
    """Check that a number of points is a sweep that can be run; `text` is what makes them.

    Raises:
        ConfigError: there are too many.
    """
    if mistake := _too_many(text, count):
        raise ConfigError([mistake])


def value_count(override: Override, choices: Mapping[str, Sequence[str]]) -> int:
    """Return how many values an override gives.

    Args:
        override: with one value or several.
        choices: of each config group, for `glob(...)`.

    Raises:
        ValueError: its values cannot be counted; says why and what to write.
    """
    from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep

    value = override._value
    if isinstance(value, IntervalSweep):
        raise ValueError("an interval has no first value and no next; write range(START,STOP,STEP)")
    if isinstance(value, Glob):
        if override.key_or_group not in choices:
            raise ValueError("glob(...) finds choices of a config group; write the values")
        return len(value.filter(list(choices[override.key_or_group])))
    if isinstance(value, RangeSweep):
        start, stop, step = (float(number or 0) for number in (value.start, value.stop, value.step))
        if not all(map(math.isfinite, (start, stop, step))) or step == 0:
            raise ValueError("must be range(START,STOP,STEP), finite numbers and a step other than 0")
        return max(0, math.ceil(min((stop - start) / step, 1e15)))
    return len(value.list) if isinstance(value, ChoiceSweep) else 1


def _too_many(text: str, count: int) -> Mistake | None:
    if count <= MOST_POINTS:
        return None
    return Mistake(text, f"makes {count:,} points, a sweep has at most {MOST_POINTS:,}; give fewer values")
