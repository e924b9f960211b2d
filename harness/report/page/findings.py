"""The sentences at the head of the comparison: what a reader would look up first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.point_results import PointResult

Part = str | dict[str, Any]
"""Text, or a link: {"point": place} or {"prompt": id}, either with other words as `text`."""

SPEED = (("latency/itl_p50_ms", False, "ms between tokens"), ("throughput/tokens_per_s", True, "tokens/s"))
REPETITION = (
    ("text/repeated_4", True, "of its 4-grams are repeats", "repeats most"),
    ("text/looped_share", True, "of its texts ran into a loop", "loops most"),
    ("text/distinct_2", False, "of its word pairs are distinct", "repeats most"),
)
LOGPROB = "probability/mean_logprob"


@dataclass(frozen=True)
class Finding:
    """One finding: what it is about, the sentence, and whether it is good, bad or neither."""

    about: str
    says: tuple[Part, ...]
    tone: str = ""

    def told(self) -> dict[str, Any]:
        """As the page is told it."""
        return {"about": self.about, "says": list(self.says), "tone": self.tone}


def findings(points: Sequence[PointResult], disagreement: Mapping[str, float]) -> list[Finding]:
    """Those that can be told of these points, most wanted first."""
    found = [
        _fastest(points),
        _repeats(points),
        _parts(points, disagreement),
        _surest(points),
        _failed(points),
    ]
    return [finding for finding in found if finding]


def _ranked(points: Sequence[PointResult], key: str, highest: bool) -> list[tuple[float, int]]:
    """(value, place) of the points that have this metric, the extreme one first."""
    values = [(p.metrics[key], place) for place, p in enumerate(points) if key in p.metrics]
    return sorted(values, key=lambda pair: (-pair[0] if highest else pair[0], pair[1]))


def _fastest(points: Sequence[PointResult]) -> Finding | None:
    for key, highest, unit in SPEED:
        ranked = _ranked(points, key, highest)
        if len(ranked) < 2:
            continue
        (best, place), (worst, last) = ranked[0], ranked[-1]
        says: list[Part] = [{"point": place}, f" with {_figure(best)} {unit}"]
        rivals = _overlapping(points, key, place, [where for _, where in ranked[1:]])
        if rivals and len(rivals) < 4:
            says += [", no significant difference from ", *_listed(rivals)]
        elif rivals:
            says += [f", no significant difference from {len(rivals)} others"]
        if last not in rivals and min(best, worst) > 0:
            ratio = max(best, worst) / min(best, worst)
            says += ["; slowest is ", {"point": last}, f" with {_figure(worst)}, {ratio:.1f}× as slow"]
        return Finding("Fastest", (*says, "."))
    return None


def _overlapping(points: Sequence[PointResult], key: str, best: int, others: Sequence[int]) -> list[int]:
    """Those of the others whose confidence interval overlaps that of the best."""
    mine = points[best].intervals.get(key)
    if not mine:
        return []
    found = []
    for place in others:
        theirs = points[place].intervals.get(key)
        if theirs and theirs[0] <= mine[1] and mine[0] <= theirs[1]:
            found.append(place)
    return found


def _repeats(points: Sequence[PointResult]) -> Finding | None:
    for key, highest, what, about in REPETITION:
        ranked = _ranked(points, key, highest)
        if len(ranked) < 2 or ranked[0][0] == ranked[-1][0]:
            continue
        (most, place), (least, last) = ranked[0], ranked[-1]
        says: list[Part] = [{"point": place}, f": {_percent(most)} {what}; least is ", {"point": last}]
        return Finding(about.capitalize(), (*says, f" with {_percent(least)}."))
    return None


def _parts(points: Sequence[PointResult], disagreement: Mapping[str, float]) -> Finding | None:
    if len(points) < 2 or not disagreement:
        return None
    prompt_id, share = max(disagreement.items(), key=lambda pair: pair[1])
    if share <= 0:
        return Finding("Disagree most", ("nowhere: all strategies wrote the same texts.",))
    same = sum(value == 0 for value in disagreement.values())
    says: list[Part] = ["on prompt ", {"prompt": prompt_id}, f" ({_percent(share)} disagreement)"]
    if same:
        says.append(f"; on {same} of {len(disagreement)} prompts all texts are the same")
    return Finding("Disagree most", (*says, "."))


def _surest(points: Sequence[PointResult]) -> Finding | None:
    ranked = _ranked(points, LOGPROB, True)
    if len(ranked) < 2:
        return None
    (most, place), (least, last) = ranked[0], ranked[-1]
    return Finding(
        "Surest",
        ({"point": place}, f" with a mean logprob of {_signed(most)}; the boldest is ",
         {"point": last}, f" with {_signed(least)}."),
    )  # fmt: skip


def _failed(points: Sequence[PointResult]) -> Finding | None:
    failed = [place for place, p in enumerate(points) if p.point.status == "failed"]
    if not failed:
        return None
    named = _listed(failed[:4]) + ([f" and {len(failed) - 4} more"] if len(failed) > 4 else [])
    return Finding("Failed", (f"{len(failed)} of {len(points)} points: ", *named, "."), "bad")


def _listed(places: Sequence[int]) -> list[Part]:
    parts: list[Part] = []
    for i, place in enumerate(places):
        if i:
            parts.append(" and " if i == len(places) - 1 else ", ")
        parts.append({"point": place})
    return parts


def _figure(value: float) -> str:
    """Three significant digits, and no exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share in (0, 1) or share >= 0.1 else f"{100 * share:.2g}%"
