"""The name of a sweep: `name=...` as it was written, its folder's, and the title derived from what varies."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from harness.config.labels import short, varied
from harness.config.point import Point
from harness.config.text_file import AS_UTF8, not_unicode
from harness.errors import Mistake

LONGEST = 500
"""The most characters of a name, as of an MLflow experiment's."""
UNNAMED = "sweep"
"""The folder's name of a sweep that has none and is no experiment."""
_LONGEST_FOLDER = 60
_NOT_PRINTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def read_name(value: Any) -> tuple[str | None, list[Mistake]]:
    """Return the sweep's name on one line; None where the config has none, or a wrong one."""
    if value is None or value == "":
        return None, []
    if isinstance(value, (dict, list)):
        return None, [Mistake("name", "must be text")]
    written = str(value).lower() if isinstance(value, bool) else str(value)
    if what := not_unicode(written):
        return None, [Mistake("name", f"holds {what}; {AS_UTF8}")]
    name = " ".join(_NOT_PRINTED.sub(" ", written).split())
    if not name or len(name) > LONGEST:
        return None, [
            Mistake(f"name={name[:40]}", f"must be 1 to {LONGEST} characters that are not all blank")
        ]
    return name, []


def folder_name(name: str) -> str:
    """Return a sweep's name as a file name: letters, digits, dots, dashes and underscores, not too long."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return (
        re.sub(r"[^A-Za-z0-9_]*[^A-Za-z0-9_.]+[^A-Za-z0-9_]*", "-", letters)[:_LONGEST_FOLDER].strip("-.")
        or UNNAMED
    )


def sweep_title(points: Sequence[Point], name: str) -> str:
    """Return the title of a sweep: as named, or what is fixed and what varies.

    Such as `smollm2-135m, 2 quantizations x 4 strategies, mine`; an experiment's begins with its name.

    Args:
        points: of the sweep, at least one.
        name: the experiment, or `sweep`.
    """
    requested = points[0].sweep_name
    if requested is not None:
        return requested
    title = ", ".join([*_fixed(points), *_varying(points), *_prompts(points)])
    return title if name == UNNAMED else f"{name}: {title}"


_SECTIONS = {
    "model": "models",
    "quantization": "quantizations",
    "cache": "caches",
    "prompts": "prompt sets",
    "decoding": "strategies",
}


def _fixed(points: Sequence[Point]) -> list[str]:
    """The choices that all points share, but for defaults."""
    found = []
    for section in ("model", "quantization", "cache", "decoding"):
        names = _names(points, section)
        if len(names) == 1 and names[0] not in ("none", "default"):
            found += names
    return found


def _varying(points: Sequence[Point]) -> list[str]:
    """How many choices and values there are of what varies: one text with `x` where all are combined."""
    counts = []
    for section, plural in _SECTIONS.items():
        if (number := len(_names(points, section))) > 1:
            counts.append((number, f"{number} {plural}"))
    values: dict[str, list[Any]] = {}
    for row in varied(points):
        for key, value in row.items():
            if key not in _SECTIONS and value not in values.setdefault(key, []):
                values[key].append(value)
    for key, some in values.items():
        counts.append((len(some), f"{len(some)} values of {short(key)}" if len(some) > 1 else short(key)))
    texts = [text for _, text in counts]
    if math.prod(number for number, _ in counts) == len(points):
        return [" x ".join(texts)] if texts else []
    return [*texts, f"{len(points)} points"]


def _prompts(points: Sequence[Point]) -> list[str]:
    names = _names(points, "prompts")
    return names if len(names) == 1 else []


def _names(points: Sequence[Point], section: str) -> list[str]:
    return list(dict.fromkeys(getattr(point, section).name for point in points))
