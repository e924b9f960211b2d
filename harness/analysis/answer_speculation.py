"""A sentence of an answer: whether speculative decoding would pay, with which draft and block length."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from harness.analysis.point_results import PointResult
from harness.analysis.sentence import Link, Sentence, Span, listed
from harness.analysis.stored_speculation import StoredDraft, best_draft, stored_drafts


class _Best(NamedTuple):
    """The fastest draft of a run, its speed-up with interval, and the most that its forward passes allow."""

    label: str
    draft: StoredDraft
    speedup: float
    low: float
    high: float
    most: float

    @property
    def pays(self) -> bool:
        """Whether it is faster; a speed-up that its forward passes do not allow shows nothing."""
        return 1 < self.low <= self.most

    @property
    def figure(self) -> str:
        """The speed-up in words."""
        if self.speedup > self.most:
            return f"at most {self.most:.2f}× as fast"
        return f"{self.speedup:.2f}× as fast"


def speculation_sentence(runs: Sequence[PointResult]) -> Sentence | None:
    """Return whether speculation pays in which runs; None where none has a draft."""
    drafted = [(p.point.label, drafts) for p in runs if p.stored and (drafts := stored_drafts(p.stored))]
    best = [(label, one) for label, drafts in drafted if (one := best_draft(drafts))]
    if not best:
        return None
    timed = [_timed(label, one) for label, one in best if one.timing]
    if not timed:
        return _untimed(best)
    timed.sort(key=lambda one: -min(one.speedup, one.most))
    paying = [one for one in timed if one.pays]
    first = (paying or timed)[0]
    spread = f"95% interval {first.low:.2f} to {first.high:.2f} over outputs and repetitions"
    spread = "timed once" if first.high == inf else spread
    evidence = (
        f"{spread}; {first.draft.chosen.tokens_per_forward:.2f} tokens per forward "
        f"pass, a proposal takes {_cost(first.draft)} of a plain step"
    )
    if first.draft.disturbed:
        evidence += f"; measured {first.speedup:.2f}×, so other work disturbed the timing"
    if not paying:
        nearest: tuple[Span, ...] = (
            f"does not pay: the best is {_with(first.draft)}, {first.figure} in ",
            Link("point", first.label),
        )
        if first.high < 1:
            slack = f"; a proposal may cost {first.draft.break_even:.2f} of a plain step at most"
            return Sentence("Speculation", (*nearest, "."), evidence + slack)
        return Sentence("Speculation", (*nearest, ", no significant difference."), evidence)
    spans: list[Span] = [f"pays in {_count(len(paying), len(timed))}: ", "most in " * (len(paying) > 1)]
    most = paying[0]
    spans += [Link("point", most.label), f", {most.figure} with {_with(most.draft)}"]
    if len(paying) > 1:
        last = paying[-1]
        spans += ["; least in ", Link("point", last.label), f", {last.figure} with {_with(last.draft)}"]
    if slower := [one.label for one in timed if not one.pays]:
        spans += ["; not in ", *listed(slower)]
    return Sentence("Speculation", (*spans, "."), evidence, "good")


def _timed(label: str, one: StoredDraft) -> _Best:
    assert one.timing is not None
    low, high = one.timing["speedup_interval"] or (0.0, inf)
    return _Best(label, one, one.timing["speedup"], low, high, one.most)


def _untimed(best: Sequence[tuple[str, StoredDraft]]) -> Sentence:
    label, one = max(best, key=lambda pair: pair[1].chosen.tokens_per_forward)
    rate = f"{one.chosen.tokens_per_forward:.2f} tokens per forward pass with {_with(one)}"
    cost = f"; it pays where a proposal costs less than {one.break_even:.2f} of a plain step"
    return Sentence("Speculation", ("is not timed: ", Link("point", label), f" has {rate}{cost}."))


def _with(one: StoredDraft) -> str:
    block = one.chosen.block
    return f"{one.name} and {block} token{'s' * (block > 1)} a block"


def _count(paying: int, timed: int) -> str:
    if paying == timed:
        return {1: "the run", 2: "both runs"}.get(timed, f"all {timed} runs")
    return f"{paying} of {timed} runs"


def _cost(one: StoredDraft) -> str:
    return "–" if one.timing is None else f"{one.timing['cost']:.2f}"
