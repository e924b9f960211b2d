"""Sentences of an answer: outputs that loop, prompts on which outputs differ, points that failed."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.comparison import Comparison
from harness.analysis.point_results import PointResult
from harness.analysis.sentence import Link, Sentence, Span, listed
from harness.store.device_turns import BESIDE_OTHERS

LOOPED = "text/looped_share"

MANY_LOOPS = 0.1
"""Share of outputs stuck in a loop from which a point is named for it."""


def loop_sentence(completed: Sequence[PointResult], comparison: Comparison) -> Sentence | None:
    """Return which points repeat themselves without end, the most often first."""
    looped = {}
    for p in completed:
        cell = comparison.cells.get(p.point.label, {}).get(LOOPED)
        if cell and cell.value >= MANY_LOOPS:
            looped[p.point.label] = cell
    if not looped:
        return None
    order = sorted(looped, key=lambda label: -looped[label].value)
    worst = looped[order[0]]
    share = f"{100 * worst.value:.0f}% of the outputs"
    text = f" end{'s' * (len(order) == 1)} stuck in a loop: {'up to ' * (len(order) > 1)}{share}."
    interval = (
        ""
        if worst.low is None or worst.high is None
        else f"[{100 * worst.low:.0f}%, {100 * worst.high:.0f}%]"
    )
    return Sentence("Loops", (*listed(order), text), f"{interval} (Wilson, over prompts)".strip(), "bad")


def disagreement_sentence(comparison: Comparison) -> Sentence | None:
    """Return the prompt on which the outputs differ most; None where that was not computed."""
    if not comparison.disagreement:
        return None
    prompt_id, share = max(comparison.disagreement.items(), key=lambda pair: pair[1])
    if share <= 0:
        return Sentence("Outputs", ("all runs generated the same outputs.",))
    same = sum(value == 0 for value in comparison.disagreement.values())
    identical = f"; on {same} of {len(comparison.disagreement)} prompts all are identical" if same else ""
    return Sentence("Outputs", ("they differ most on prompt ", Link("prompt", prompt_id), f"{identical}."))


def devices_sentence(completed: Sequence[PointResult]) -> Sentence | None:
    """Return which points were timed on another device, with other threads, or beside other jobs."""
    places: dict[str, list[str]] = {}
    for p in completed:
        place = p.stored.parts().get("timed_on") if p.stored else None
        if isinstance(place, str):
            places.setdefault(place, []).append(p.point.label)
    if len(places) < 2:
        (place,) = places or ("",)
        if not place.endswith(BESIDE_OTHERS):
            return None
        text = "measured on nodes that other jobs may have used at the same time, so it may be too high."
        return Sentence("Latency", (text,), tone="bad")
    spans: list[Span] = ["not all runs were timed on the same: "]
    for place, labels in places.items():
        spans += [*listed(labels, 4), f" on {place}; "]
    return Sentence("Latency", (*spans, "differences in latency include that."), tone="bad")


def failure_sentence(points: Sequence[PointResult]) -> Sentence | None:
    """Return which points failed."""
    failed = [p.point.label for p in points if p.point.status == "failed"]
    if not failed:
        return None
    number = f"{len(failed)} of {len(points)} runs: "
    return Sentence("Failed", (number, *listed(failed, 4), "."), tone="bad")
