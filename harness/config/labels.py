"""Labels: the choices of a point and every value that tells it from the others of its sweep."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.config.point import Point
from harness.config.schema import choice_parts, value_keys

MAIN = ("model", "quantization", "decoding")


def varied(points: Sequence[Point]) -> list[dict[str, Any]]:
    """For each point the values, by dotted key, that its choices do not already tell.

    A key of a chosen part (`decoding.temperature`) is listed at the points of a choice among which it
    differs; a key of any other part (`generation.seed`) at all points once it differs anywhere. A choice of
    timing or tracking that differs is listed as `timing`, `tracking`.
    """
    found: list[dict[str, Any]] = [{} for _ in points]
    for part in choice_parts():
        names = [getattr(point, part).name for point in points]
        if part not in (*MAIN, "prompts") and len(set(names)) > 1:
            for row, name in zip(found, names, strict=True):
                row[part] = name
    for key in value_keys():
        part, _, field = key.partition(".")
        values = [getattr(getattr(point, part), field) for point in points]
        kinds = [getattr(getattr(point, part), "name", "") for point in points]
        told: dict[str, set[str]] = {}
        for kind, value in zip(kinds, values, strict=True):
            told.setdefault(kind, set()).add(repr(value))
        for row, kind, value in zip(found, kinds, values, strict=True):
            if len(told[kind]) > 1:
                row[key] = value
    return found


def labelled(points: Sequence[Point]) -> list[Point]:
    """The points with their labels, unique among them; the points must differ."""
    with_prompts = len({point.prompts.name for point in points}) > 1
    labels = []
    for point, values in zip(points, varied(points), strict=True):
        choices = [getattr(point, part).name for part in (*MAIN, *(["prompts"] if with_prompts else []))]
        words = [f"{short(key)}={value_text(value)}" for key, value in values.items()]
        labels.append(" ".join(["/".join(choices), *words]))
    return [point.model_copy(update={"label": label}) for point, label in zip(points, labels, strict=True)]


def short(key: str) -> str:
    """`temperature` for `decoding.temperature`; the whole key where another part has that name too."""
    last = key.rpartition(".")[2]
    if key.startswith("decoding.") or "." not in key:
        return last
    return last if _last_components()[last] == 1 else key


def value_text(value: Any) -> str:
    """A value as a label shows it: no quotes, no spaces after commas; a long one is cut, its hash added."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:40]}...{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _last_components() -> Counter[str]:
    return Counter(key.rpartition(".")[2] for key in value_keys())
