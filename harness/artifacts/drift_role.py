"""A point's role in drift: which point it is compared with, and which points are compared with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.prompts.passages import FixedText


@dataclass(frozen=True)
class FixedTextRole:
    """A fixed text (`drift.text`) that a point's model is evaluated on.

    Attributes:
        text: the passages.
        key: hash of the text and of the model as it is loaded.
        reference: the reference's own key; None without a reference.
    """

    text: FixedText
    key: str
    reference: str | None = None


@dataclass(frozen=True)
class DriftRole:
    """A point's role in drift.

    Attributes:
        reference: address of the point that it is compared with; None where there is none.
        dependents: addresses of the points that are compared with it.
        together: scored tokens, at most, along which the references of one model are kept in this sweep,
            those of a fixed text included: they share one budget.
        fixed_text: the fixed text of the sweep, for the point's model.
    """

    reference: str | None = None
    dependents: tuple[str, ...] = ()
    together: int = 0
    fixed_text: FixedTextRole | None = None
