"""Composed configs become points: named, checked all at once, without copies, labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.labels import MAIN, labelled
from harness.config.point import Point
from harness.config.rules import check_rules, expectation_rules
from harness.config.validation import named, read_expectations, read_parts
from harness.errors import ConfigError, Mistake

EXPECT = "expect"
"""The key of a config that lists what a run must show."""


@dataclass(frozen=True)
class Composed:
    """One composed config, as plain data.

    Attributes:
        config: part -> key -> value, and the list `expect`; other top-level keys are ignored.
        choices: config group -> choice, as Hydra tells them.
        own: the parts that hold the user's own model or prompts (`sources.py`), beside or without a choice.
    """

    config: Mapping[str, Any]
    choices: Mapping[str, Any]
    own: frozenset[str] = frozenset()


def make_points(composed: Sequence[Composed]) -> list[Point]:
    """The points of a sweep, in order, each once, with labels that are unique among them.

    Raises:
        ConfigError: with every mistake in any of them, each told once; a mistake that concerns only some
            points names those.
    """
    points: dict[str, Point] = {}
    where: dict[Mistake, list[str]] = {}
    for one in composed:
        config = named(dict(one.config), one.choices, one.own)
        parts, mistakes = read_parts(config)
        expect, wrong = read_expectations(config.get(EXPECT))
        mistakes += [*check_rules(parts), *wrong]
        mistakes += expectation_rules(expect, parts)
        for mistake in mistakes:
            where.setdefault(mistake, []).append("/".join(str(config[part]["name"]) for part in MAIN))
        if not mistakes:
            point = Point(label="", expect=expect, **parts)  # type: ignore[arg-type]
            points.setdefault(point.model_dump_json(), point)
    if where:
        raise ConfigError(_told(mistake, labels, len(composed)) for mistake, labels in where.items())
    return labelled(list(points.values()))


def point_config(point: Point) -> dict[str, Any]:
    """What was asked for, as plain JSON-able data: only what is not null; not what
    concerns the sweep as a whole."""
    return point.model_dump(mode="json", exclude_none=True, exclude={"label", "compare", "drift", EXPECT})


def _told(mistake: Mistake, labels: list[str], total: int) -> Mistake:
    if len(labels) == total:
        return mistake
    return Mistake(mistake.key, mistake.message, tuple(dict.fromkeys(labels)))
