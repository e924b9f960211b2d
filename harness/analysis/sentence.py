"""A sentence of a report: text with links to points and prompts, and the figures that support it.

The page, the terminal and MLflow's description render the same sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "bad", ""]

_MINUS = re.compile(r"(?<![^\s\[(=])-(?=\d)")
"""An ASCII minus before a number."""


@dataclass(frozen=True)
class Link:
    """A reference within a sentence.

    Attributes:
        kind: what is named: a point by its label, or a prompt by its id.
        name: the label or the id.
    """

    kind: Literal["point", "prompt"]
    name: str


Span = str | Link


@dataclass(frozen=True)
class Sentence:
    """One statement.

    Attributes:
        title: its subject in a word or two: `Best`, `Cost`, `temperature`, `Fastest`.
        spans: the statement, text and links in turn.
        evidence: the figures behind it: values, difference, interval, number of prompts; may be empty. The
            sign of a negative number becomes the minus with which metrics are shown.
        tone: `good` for an answer, `bad` for what went wrong or is missing, else empty.
    """

    title: str
    spans: tuple[Span, ...]
    evidence: str = ""
    tone: Tone = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "evidence", _MINUS.sub("−", self.evidence))

    def text(self, names: Mapping[str, str] | None = None) -> str:
        """Return the statement as plain text; `names` are shorter names of points by label."""
        known = names or {}
        parts = (
            span
            if isinstance(span, str)
            else known.get(span.name, span.name)
            if span.kind == "point"
            else span.name
            for span in self.spans
        )
        return "".join(parts)


def listed(labels: Iterable[str], most: int = 3) -> tuple[Span, ...]:
    """Return links to points joined as in English: `a, b and c`, or `a, b and 7 others`."""
    found = list(labels)
    shown = found if len(found) <= most else found[: most - 1]
    spans: list[Span] = []
    for i, label in enumerate(shown):
        if i:
            spans.append(" and " if i == len(found) - 1 else ", ")
        spans.append(Link("point", label))
    if len(shown) < len(found):
        spans.append(f" and {len(found) - len(shown)} others")
    return tuple(spans)
