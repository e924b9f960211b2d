"""Labels: the choices of a point and every value that distinguishes it from the others of its sweep."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.config.effective import most_samples
from harness.config.point import Point
from harness.config.schema import choice_sections, value_keys

MAIN = ("model", "quantization", "decoding")
"""The sections whose choices are in every label."""
OF_DRAWS = ("generation.samples", "generation.seed")
"""The keys that change nothing where no token is drawn."""


def varied(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return for each point the values, by dotted key, that vary beside its choices.

    A key of a chosen section (`decoding.temperature`) is listed for the points of a choice among which it
    differs; a key of any other section (`generation.max_new_tokens`) for all points once it differs anywhere,
    but samples and seed only for those that can have several. A choice of timing or tracking that differs is
    listed as `timing`, `tracking`.
    """
    found: list[dict[str, Any]] = [{} for _ in points]
    for section in choice_sections():
        names = [getattr(point, section).name for point in points]
        if section not in (*MAIN, "prompts") and len(set(names)) > 1:
            for row, name in zip(found, names, strict=True):
                row[section] = name
    for key in value_keys():
        section, _, field = key.partition(".")
        values = [getattr(getattr(point, section), field) for point in points]
        choices = [getattr(getattr(point, section), "name", "") for point in points]
        if key in OF_DRAWS:
            choices = _drawing(points, values)
        distinct: dict[str, set[str]] = {}
        for choice, value in zip(choices, values, strict=True):
            distinct.setdefault(choice, set()).add(repr(value))
        for row, choice, value in zip(found, choices, values, strict=True):
            if len(distinct[choice]) > 1:
                row[key] = value
    return found


def _drawing(points: Sequence[Point], values: Sequence[Any]) -> list[str]:
    """How each point comes to several samples, as a choice; no difference where those of one do not agree."""
    most = [most_samples(point.decoding) for point in points]
    single = {repr(value) for limit, value in zip(most, values, strict=True) if limit == 1}
    if len(single) > 1:
        return ["draws"] * len(points)
    return ["draws" if limit is None else "" if limit == 1 else "outputs" for limit in most]


def with_labels(points: Sequence[Point]) -> list[Point]:
    """Return the points with their labels, unique among them; the points must differ."""
    with_prompts = len({point.prompts.name for point in points}) > 1
    labels = []
    for point, values in zip(points, varied(points), strict=True):
        choices = [getattr(point, name).name for name in (*MAIN, *(["prompts"] if with_prompts else []))]
        words = [f"{short(key)}={value_text(value)}" for key, value in values.items()]
        labels.append(" ".join(["/".join(choices), *words]))
    return [point.model_copy(update={"label": label}) for point, label in zip(points, labels, strict=True)]


def short(key: str) -> str:
    """Return `temperature` for `decoding.temperature`; the whole key if another section has that key too."""
    last = key.rpartition(".")[2]
    if key.startswith("decoding.") or "." not in key:
        return last
    return last if _last_components()[last] == 1 else key


def value_text(value: Any) -> str:
    """Return a value as labels show it: no quotes or spaces after commas; a long one cut and hashed."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:40]}...{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _last_components() -> Counter[str]:
    return Counter(key.rpartition(".")[2] for key in value_keys())
