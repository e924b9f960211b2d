"""What speculation asks of a backend: drafts along stored texts, and a loop in which they propose tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np

    from harness.analysis.speculative_blocks import SpeculativeText
    from harness.backends.backend import Request

DraftKind = Literal["model", "prompt_lookup", "early_exit"]


@dataclass(frozen=True)
class Draft:
    """What proposes tokens to a model.

    Attributes:
        kind: another model, the text itself (prompt lookup), or the first layers of the model (early exit).
        name: for people, unique among the drafts of a point.
        model: what `speculation.draft` calls it; empty where it is no model.
        layers: of early exit; else 0.
        ngram: `max_matching_ngram_size` of prompt lookup; else 0.
        weights: fingerprint of the model's weights; empty where it is no model.
    """

    kind: DraftKind
    name: str
    model: str = ""
    layers: int = 0
    ngram: int = 0
    weights: str = ""

    def spec(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class DraftedText:
    """What a draft proposes at each of the T positions of a text: (T,) arrays.

    Attributes:
        proposals: its tokens, given the text so far, with the text's own noise.
        coupling: the probability that they agree, drawn with shared noise.
        overlap: 1 - TV of the two distributions.
    """

    proposals: np.ndarray
    coupling: np.ndarray
    overlap: np.ndarray


class Speculator(Protocol):
    """A backend's speculative decoding, for strategies that choose one token a step from one row."""

    @property
    def obstacle(self) -> str | None:
        """Why the loop cannot be run with the model, in a few words; None where it can."""

    def along(
        self, texts: Sequence[tuple[Request, Sequence[int]]], drafts: Sequence[Draft]
    ) -> list[Mapping[str, DraftedText]]:
        """Return what drafts that have distributions propose along texts of one strategy, by draft's name.

        Every model reads each text once.
        """

    def run(self, request: Request, draft: Draft | None, block: int) -> SpeculativeText:
        """Generate one text, of which a draft, if any, proposes up to `block` tokens a forward pass."""
