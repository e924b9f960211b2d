"""Composed configs become points: named, checked all at once, without duplicates, labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.labels import MAIN, with_labels
from harness.config.point import Point
from harness.config.rules import check_rules, expectation_rules
from harness.config.validation import read_expectations, read_sections, with_choice_names
from harness.errors import ConfigError, Mistake

EXPECT = "expect"
"""The key of a config that lists what a run must show."""


@dataclass(frozen=True)
class Composed:
    """One composed config, as plain data."""

    # section -> key -> value, and the list `expect`; other top-level keys are ignored.
    config: Mapping[str, Any]
    # config group -> choice, as Hydra reports them.
    choices: Mapping[str, Any]
    # The sections with a user's own model or prompts, beside or without a choice.
    custom: frozenset[str] = frozenset()


def make_points(composed: Sequence[Composed]) -> list[Point]:
    """Return the points of a sweep, in order and without duplicates, with unique labels.

    Raises:
        ConfigError: with every mistake in any of them, each once; a mistake that concerns only some points
            names them.
    """
    points: dict[str, Point] = {}
    wrong: dict[Mistake, list[str]] = {}
    for one in composed:
        config = with_choice_names(dict(one.config), one.choices, one.custom)
        sections, mistakes = read_sections(config)
        expect, wrong_expectations = read_expectations(config.get(EXPECT))
        mistakes += [*check_rules(sections), *wrong_expectations, *expectation_rules(expect, sections)]
        for mistake in mistakes:
            wrong.setdefault(mistake, []).append("/".join(str(config[name]["name"]) for name in MAIN))
        if not mistakes:
            point = Point(label="", expect=expect, **sections)  # type: ignore[arg-type]
            points.setdefault(point.model_dump_json(), point)
    if wrong:
        raise ConfigError(
            mistake
            if len(names) == len(composed)
            else Mistake(mistake.key, mistake.message, tuple(dict.fromkeys(names)))
            for mistake, names in wrong.items()
        )
    return with_labels(list(points.values()))


def point_config(point: Point) -> dict[str, Any]:
    """Return what was requested of a point, as plain JSON-able data.

    Without nulls, and without what concerns the sweep as a whole.
    """
    of_the_sweep = {"label", "tracking", "compare", "drift", EXPECT}
    return point.model_dump(mode="json", exclude_none=True, exclude=of_the_sweep)
