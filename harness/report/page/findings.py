"""The sentences at the top of the comparison: what a reader would look up first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.point_results import PointResult

Span = str | dict[str, Any]
"""Text, or a link: {"point": index} or {"prompt": id}, with its own text as `text` if it has one."""

SPEED = (("latency/itl_p50_ms", False, "ms between tokens"), ("throughput/tokens_per_s", True, "tokens/s"))
REPETITION = (
    ("text/repeated_4", True, "of its 4-grams are repeats", "Most repetitive"),
    ("text/looped_share", True, "of its outputs are stuck in a loop", "Most loops"),
    ("text/distinct_2", False, "of its word pairs are distinct", "Most repetitive"),
)
LOGPROB = "probability/mean_logprob"


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        title: what it is about.
        spans: the sentence.
        tone: `good`, `bad` or empty.
    """

    title: str
    spans: tuple[Span, ...]
    tone: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the finding as the page has it."""
        return {"title": self.title, "spans": list(self.spans), "tone": self.tone}


def findings(points: Sequence[PointResult], disagreement: Mapping[str, float]) -> list[Finding]:
    """Return the findings that these points allow, the most wanted first."""
    found = [
        _fastest(points),
        _most_repetitive(points),
        _largest_disagreement(points, disagreement),
        _highest_confidence(points),
        _failed(points),
    ]
    return [finding for finding in found if finding]


def _ranked(points: Sequence[PointResult], key: str, highest: bool) -> list[tuple[float, int]]:
    """Return (value, index) of the points that have this metric, the extreme one first."""
    values = [(p.metrics[key], index) for index, p in enumerate(points) if key in p.metrics]
    return sorted(values, key=lambda pair: (-pair[0] if highest else pair[0], pair[1]))


def _fastest(points: Sequence[PointResult]) -> Finding | None:
    for key, highest, unit in SPEED:
        ranked = _ranked(points, key, highest)
        if len(ranked) < 2:
            continue
        (best, first), (worst, last) = ranked[0], ranked[-1]
        spans: list[Span] = [{"point": first}, f" with {_figure(best)} {unit}"]
        rivals = _overlapping(points, key, first, [index for _, index in ranked[1:]])
        if rivals and len(rivals) < 4:
            spans += [", no significant difference from ", *_listed(rivals)]
        elif rivals:
            spans += [f", no significant difference from {len(rivals)} others"]
        if last not in rivals and min(best, worst) > 0:
            ratio = max(best, worst) / min(best, worst)
            spans += ["; slowest is ", {"point": last}, f" with {_figure(worst)} ({ratio:.1f}× slower)"]
        return Finding("Fastest", (*spans, "."))
    return None


def _overlapping(points: Sequence[PointResult], key: str, best: int, others: Sequence[int]) -> list[int]:
    """Return those of the others whose confidence interval overlaps that of the best."""
    mine = points[best].intervals.get(key)
    if not mine:
        return []
    found = []
    for index in others:
        theirs = points[index].intervals.get(key)
        if theirs and theirs[0] <= mine[1] and mine[0] <= theirs[1]:
            found.append(index)
    return found


def _most_repetitive(points: Sequence[PointResult]) -> Finding | None:
    for key, highest, what, title in REPETITION:
        ranked = _ranked(points, key, highest)
        if len(ranked) < 2 or ranked[0][0] == ranked[-1][0]:
            continue
        (most, first), (least, last) = ranked[0], ranked[-1]
        spans: list[Span] = [{"point": first}, f": {_percent(most)} {what}; least: ", {"point": last}]
        return Finding(title, (*spans, f" with {_percent(least)}."))
    return None


def _largest_disagreement(points: Sequence[PointResult], disagreement: Mapping[str, float]) -> Finding | None:
    if len(points) < 2 or not disagreement:
        return None
    prompt_id, share = max(disagreement.items(), key=lambda pair: pair[1])
    if share <= 0:
        return Finding("Largest disagreement", ("none: all strategies generated the same outputs.",))
    same = sum(value == 0 for value in disagreement.values())
    spans: list[Span] = ["on prompt ", {"prompt": prompt_id}, f" ({_percent(share)})"]
    if same:
        spans.append(f"; on {same} of {len(disagreement)} prompts all outputs are identical")
    return Finding("Largest disagreement", (*spans, "."))


def _highest_confidence(points: Sequence[PointResult]) -> Finding | None:
    ranked = _ranked(points, LOGPROB, True)
    if len(ranked) < 2:
        return None
    (most, first), (least, last) = ranked[0], ranked[-1]
    return Finding(
        "Highest confidence",
        ({"point": first}, f" with a mean logprob of {_signed(most)}; lowest: ",
         {"point": last}, f" with {_signed(least)}."),
    )  # fmt: skip


def _failed(points: Sequence[PointResult]) -> Finding | None:
    failed = [index for index, p in enumerate(points) if p.point.status == "failed"]
    if not failed:
        return None
    named = _listed(failed[:4]) + ([f" and {len(failed) - 4} more"] if len(failed) > 4 else [])
    return Finding("Failed", (f"{len(failed)} of {len(points)} runs: ", *named, "."), "bad")


def _listed(indices: Sequence[int]) -> list[Span]:
    spans: list[Span] = []
    for i, index in enumerate(indices):
        if i:
            spans.append(" and " if i == len(indices) - 1 else ", ")
        spans.append({"point": index})
    return spans


def _figure(value: float) -> str:
    """Return three significant digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share in (0, 1) or share >= 0.1 else f"{100 * share:.2g}%"
