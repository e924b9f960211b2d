"""Composed configs become points: named, checked all at once, without duplicates, labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.conditional import Candidate, OwnValues, applied
from harness.config.labels import MAIN, with_labels
from harness.config.point import Point
from harness.config.rules import check_rules, expectation_rules
from harness.config.sweep_name import read_name
from harness.config.validation import read_expectations, read_sections, with_choice_names
from harness.errors import ConfigError, Mistake

EXPECT = "expect"
"""The key of a config that lists what a run must show."""
NAME = "name"
"""The key of a config that names the sweep."""


@dataclass(frozen=True)
class Composed:
    """One composed config, as plain data."""

    # section -> key -> value, and the list `expect`; other top-level keys are ignored.
    config: Mapping[str, Any]
    # config group -> choice, as Hydra reports them.
    choices: Mapping[str, Any]
    # The sections with a user's own model or prompts, beside or without a choice.
    custom: frozenset[str] = frozenset()
    # The keys that its case sets together with the choice that they belong to.
    fixed: frozenset[str] = frozenset()


def make_points(composed: Sequence[Composed], own_values: OwnValues | None = None) -> list[Point]:
    """Return the points of a sweep, in order and without duplicates, with unique labels.

    Args:
        composed: of one command.
        own_values: what choices set by themselves; with it, a point is made without the keys that it does not
            use and another one does.

    Raises:
        ConfigError: with every mistake in any of them, each once; a mistake that concerns only some points
            names them.
    """
    read = []
    for one in composed:
        config = with_choice_names(dict(one.config), one.choices, one.custom)
        read.append((config, *read_sections(config)))
    candidates = [Candidate(good, one.fixed) for one, (_, good, _) in zip(composed, read, strict=True)]
    if own_values is not None:
        candidates = applied(candidates, own_values)
    points: dict[str, Point] = {}
    wrong: dict[Mistake, list[str]] = {}
    notes: dict[str, tuple[str, ...]] = {}
    for candidate, (config, _, mistakes) in zip(candidates, read, strict=True):
        sections = candidate.sections
        expect, wrong_expectations = read_expectations(config.get(EXPECT))
        name, wrong_name = read_name(config.get(NAME))
        mistakes += [*check_rules(sections), *wrong_expectations, *expectation_rules(expect, sections)]
        mistakes += wrong_name
        for mistake in mistakes:
            wrong.setdefault(mistake, []).append("/".join(str(config[name]["name"]) for name in MAIN))
        if not mistakes:
            point = Point(label="", sweep_name=name, expect=expect, **sections)  # type: ignore[arg-type]
            key = point.model_dump_json()
            points.setdefault(key, point)
            notes[key] = tuple(dict.fromkeys([*notes.get(key, ()), *candidate.notes]))
    if wrong:
        raise ConfigError(
            mistake
            if len(names) == len(composed)
            else Mistake(mistake.key, mistake.message, tuple(dict.fromkeys(names)))
            for mistake, names in wrong.items()
        )
    return with_labels([point.model_copy(update={"notes": notes[key]}) for key, point in points.items()])


def point_config(point: Point) -> dict[str, Any]:
    """Return what was requested of a point, as plain JSON-able data.

    Without nulls, and without what concerns the sweep as a whole.
    """
    of_the_sweep = {"label", "tracking", "compare", "drift", "speculation", "sweep_name", "notes", EXPECT}
    return point.model_dump(mode="json", exclude_none=True, exclude=of_the_sweep)
