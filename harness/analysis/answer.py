"""The answer of a sweep: which point is best for these prompts, at which value, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.sentence import Sentence


@dataclass(frozen=True)
class Answer:
    """What a sweep says about the question that it was run for.

    Attributes:
        goal: key of the metric that the question is about; None where there is none (then the first sentence
            says what would be needed).
        best: label of the point with the best mean of the goal; None without a goal.
        ties: labels that are not significantly worse than the best.
        sentences: the answer, most important first; each is supported by the statistics that it names.
    """

    goal: str | None
    best: str | None
    ties: tuple[str, ...]
    sentences: tuple[Sentence, ...]
