"""The sentences at the top of the comparison: what a reader would look up first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.point_results import PointResult

Span = str | dict[str, Any]
"""Text, or a link: {"point": index} or {"prompt": id}."""

SPEED = (("latency/itl_p50_ms", False, "ms between tokens"), ("throughput/tokens_per_s", True, "tokens/s"))
REPETITION = (
    ("text/repeated_4", True, "of its 4-grams are repeats", "Most repetitive"),
    ("text/looped_share", True, "of its outputs are stuck in a loop", "Most loops"),
    ("text/distinct_2", False, "of its word pairs are distinct", "Most repetitive"),
)
LOGPROB = "probability/mean_logprob"


def findings(points: Sequence[PointResult], disagreement: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the findings that these points allow, the most wanted first, as the page has them."""
    found = [
        _fastest(points),
        _most_repetitive(points),
        _largest_disagreement(points, disagreement),
        _highest_confidence(points),
        _failed(points),
    ]
    return [finding for finding in found if finding]


def _finding(title: str, *spans: Span, tone: str = "") -> dict[str, Any]:
    """Return a finding: its title, its sentence, and whether it is `good`, `bad` or neither."""
    return {"title": title, "spans": spans, "tone": tone}


def _ranked(points: Sequence[PointResult], key: str, highest: bool) -> list[tuple[float, int]]:
    """Return (value, index) of the points that have this metric, the extreme one first; of one point none."""
    values = [(p.metrics[key], index) for index, p in enumerate(points) if key in p.metrics]
    ranked = sorted(values, key=lambda pair: (-pair[0] if highest else pair[0], pair[1]))
    return ranked if len(ranked) > 1 else []


def _fastest(points: Sequence[PointResult]) -> dict[str, Any] | None:
    for key, highest, unit in SPEED:
        if not (ranked := _ranked(points, key, highest)):
            continue
        (best, first), (worst, last) = ranked[0], ranked[-1]
        spans: list[Span] = [{"point": first}, f" with {_figure(best)} {unit}"]
        rivals = _overlapping(points, key, first, [index for _, index in ranked[1:]])
        if rivals:
            others = _listed(rivals) if len(rivals) < 4 else [f"{len(rivals)} others"]
            spans += [", no significant difference from ", *others]
        if last not in rivals and min(best, worst) > 0:
            ratio = max(best, worst) / min(best, worst)
            spans += ["; slowest is ", {"point": last}, f" with {_figure(worst)} ({ratio:.1f}× slower)"]
        return _finding("Fastest", *spans, ".")
    return None


def _overlapping(points: Sequence[PointResult], key: str, best: int, others: Sequence[int]) -> list[int]:
    """Return those of the others whose confidence interval overlaps that of the best."""
    intervals = [p.intervals.get(key) for p in points]
    mine = intervals[best]
    return [i for i in others if mine and (o := intervals[i]) and o[0] <= mine[1] and mine[0] <= o[1]]


def _most_repetitive(points: Sequence[PointResult]) -> dict[str, Any] | None:
    for key, highest, what, title in REPETITION:
        ranked = _ranked(points, key, highest)
        if not ranked or ranked[0][0] == ranked[-1][0]:
            continue
        (most, first), (least, last) = ranked[0], ranked[-1]
        repeated = f": {_percent(most)} {what}; least: "
        return _finding(title, {"point": first}, repeated, {"point": last}, f" with {_percent(least)}.")
    return None


def _largest_disagreement(
    points: Sequence[PointResult], disagreement: Mapping[str, float]
) -> dict[str, Any] | None:
    if len(points) < 2 or not disagreement:
        return None
    prompt_id, share = max(disagreement.items(), key=lambda pair: pair[1])
    if share <= 0:
        return _finding("Largest disagreement", "none: all strategies generated the same outputs.")
    same = sum(value == 0 for value in disagreement.values())
    identical = f"; on {same} of {len(disagreement)} prompts all outputs are identical" if same else ""
    rest = f" ({_percent(share)}){identical}."
    return _finding("Largest disagreement", "on prompt ", {"prompt": prompt_id}, rest)


def _highest_confidence(points: Sequence[PointResult]) -> dict[str, Any] | None:
    if not (ranked := _ranked(points, LOGPROB, True)):
        return None
    (most, first), (least, last) = ranked[0], ranked[-1]
    highest = f" with a mean logprob of {_signed(most)}; lowest: "
    lowest = f" with {_signed(least)}."
    return _finding("Highest confidence", {"point": first}, highest, {"point": last}, lowest)


def _failed(points: Sequence[PointResult]) -> dict[str, Any] | None:
    failed = [index for index, p in enumerate(points) if p.point.status == "failed"]
    if not failed:
        return None
    more = [f" and {len(failed) - 4} more"] if len(failed) > 4 else []
    number = f"{len(failed)} of {len(points)} runs: "
    return _finding("Failed", number, *_listed(failed[:4]), *more, ".", tone="bad")


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
