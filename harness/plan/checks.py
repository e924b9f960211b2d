"""What cannot be told of a point's config alone: of the sweep as a whole, or beside its model and prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.artifacts.needs import timing_spec
from harness.config.expectation import matches
from harness.config.point import Point
from harness.config.suggest import did_you_mean
from harness.errors import Mistake
from harness.plan.references import wrong_reference

if TYPE_CHECKING:
    from harness.plan.plan import PlannedPoint
    from harness.prompts.prompt import Prompt


def of_the_sweep(points: Sequence[Point]) -> Iterator[Mistake]:
    """What concerns a sweep as a whole."""
    if len({point.tracking for point in points}) > 1:
        yield Mistake("tracking", "differs between the points of the sweep; they are told to one place")
    if len({point.compare for point in points}) > 1:
        yield Mistake("compare", "differs between the points of the sweep; they are compared in one way")
        return
    if len({point.drift for point in points}) > 1:
        yield Mistake("drift", "differs between the points of the sweep; they are held against one reference")
    else:
        yield from wrong_reference(points)
    labels = [point.label for point in points]
    baseline = points[0].compare.baseline
    if baseline is not None and baseline not in labels:
        yield Mistake(
            f"compare.baseline={baseline}",
            f"no point has this label{did_you_mean(baseline, labels)} (points: {_few(labels)})",
        )
    for place, one in enumerate(points[0].expect):
        if one.point is not None and not any(matches(one.point, label) for label in labels):
            yield Mistake(
                f"expect[{place}].point={one.point}",
                f"no point has this label{did_you_mean(one.point, labels)} (points: {_few(labels)})",
            )


def expected_prompts(planned: Sequence[PlannedPoint]) -> Iterator[Mistake]:
    """Expectations of prompts and samples that their points do not have."""
    for place, one in enumerate(planned[0].point.expect):
        points = [p for p in planned if matches(one.point, p.point.label)]
        ids = list(dict.fromkeys(prompt.id for p in points for prompt in p.prompts))
        if one.prompt is not None and one.prompt not in ids:
            hint = did_you_mean(one.prompt, ids)
            yield Mistake(
                f"expect[{place}].prompt={one.prompt}", f"no prompt has this id{hint} (ids: {_few(ids)})"
            )
        samples = max(p.point.generation.samples for p in points)
        if one.sample >= samples:
            cure = f"the first sample is 0 and there are generation.samples={samples}"
            yield Mistake(f"expect[{place}].sample={one.sample}", cure)


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")


def timing_fits(point: Point, prompts: Sequence[Prompt], context: int | None) -> list[Mistake]:
    """A latency pass that could time no prompt is a mistake, not an empty table."""
    timing = point.timing
    if not timing.enabled or context is None:
        return []
    shortest = min(len(prompt.ids) for prompt in prompts)
    if shortest + timing.new_tokens <= context:
        return []
    message = (
        f"{timing.new_tokens} with the shortest prompt's {shortest} tokens are more than the context of "
        f"{context}; take fewer, or timing=off"
    )
    return [Mistake("timing.new_tokens", message)]


def alternatives_fit(point: Point, vocabulary: int | None) -> list[Mistake]:
    """More alternatives a step than there are tokens were not meant."""
    asked = point.record.top_k
    if vocabulary is None or asked <= vocabulary:
        return []
    message = f"{point.model.name} has a vocabulary of {vocabulary} tokens; take at most that many"
    return [Mistake(f"record.top_k={asked}", message)]


def timings_agree(planned: Sequence[PlannedPoint]) -> list[Mistake]:
    """Points with the same samples share one place in the store, which holds one timing."""
    specs: dict[str, dict[str, Any]] = {}
    for one in planned:
        if one.point.timing.enabled:
            first = specs.setdefault(one.point_id, timing_spec(one.point))
            if first != timing_spec(one.point):
                cure = "would have the same samples and two timings; run the second one as a sweep of its own"
                return [Mistake("timing", f"{one.point.label} and another point {cure}")]
    return []


def references_agree(planned: Sequence[PlannedPoint]) -> list[Mistake]:
    """The same, of what their texts are held against."""
    held: dict[str, PlannedPoint] = {}
    for one in planned:
        first = held.setdefault(one.point_id, one)
        if first.metrics.references != one.metrics.references:
            cure = "have the same prompts with other references; run the second one as a sweep of its own"
            return [Mistake("prompts", f"{first.point.label} and {one.point.label} {cure}")]
    return []
