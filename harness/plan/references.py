"""Which points of a sweep are held against which: each one of lower precision, and its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.point import Point
from harness.config.suggest import did_you_mean
from harness.errors import Mistake
from harness.store.reference_index import ReferenceIndex, read_index, samples_folder, text_folder
from harness.store.stored_point import StoredPoint, stored_point

if TYPE_CHECKING:
    from harness.models.precision import Precision
    from harness.plan.plan import PlannedPoint
    from harness.prompts.passages import FixedText


@dataclass(frozen=True)
class Text:
    """A fixed text that a point's model is held to.

    Attributes:
        passages: the text.
        key: of what the model makes of it: of the text, and of the model as it is loaded.
        reference: the reference's own key; None without one.
    """

    passages: FixedText
    key: str
    reference: str | None = None


@dataclass(frozen=True)
class Drifting:
    """A point's part in drift.

    Attributes:
        reference: address of the point it is held against; None where there is none.
        held: addresses of those that are held against it.
        together: positions, at most, that its model's references are held along in this sweep, those of a
            fixed text included: they share one budget.
        text: the fixed text of the sweep, for its model.
    """

    reference: str | None = None
    held: tuple[str, ...] = ()
    together: int = 0
    text: Text | None = None


NO_DRIFT = Drifting()
"""Of a point that has no part in it."""


def shares(planned: PlannedPoint) -> int:
    """Bytes of the budget for the distributions along a reference's own samples."""
    return _share(planned.point, planned.tokens, planned.drifting.together)


def text_share(planned: PlannedPoint) -> int:
    """Bytes of the budget for those along the fixed text."""
    text = planned.drifting.text
    return 0 if text is None else _share(planned.point, text.passages.tokens, planned.drifting.together)


def _share(point: Point, positions: int, together: int) -> int:
    return int(point.drift.budget_mb * 2**20 * positions / max(1, together))


def wrong_reference(points: Sequence[Point]) -> list[Mistake]:
    """A reference that is not in the sweep."""
    asked = points[0].drift.reference
    names = list(dict.fromkeys(point.quantization.name for point in points))
    if asked is None or asked in names:
        return []
    cure = f"quantization={asked},{','.join(names)} adds it"
    message = f"no point of the sweep has this quantization{did_you_mean(asked, names)}; {cure}"
    return [Mistake(f"drift.reference={asked}", message)]


def with_drift(
    planned: Sequence[PlannedPoint], precisions: Sequence[Precision], outputs: Path
) -> list[PlannedPoint]:
    """The points with their parts in drift, and with what is needed for it.

    The reference of a point is that of the same model, prompts, decoding and generation in the highest
    precision of the sweep, or in the quantization that `drift.reference` names; it has none itself.
    """
    if not planned or not planned[0].point.drift.enabled:
        return list(planned)
    references = _references(planned, precisions)
    held: dict[int, list[str]] = {}
    for place, reference in enumerate(references):
        if reference is not None:
            held.setdefault(reference, []).append(planned[place].point_id)
    together: dict[Any, int] = {}
    counted = set()
    for place in held:
        one = planned[place]
        group = (one.point.model, one.point.quantization)
        if one.point_id not in counted:
            counted.add(one.point_id)
            together[group] = together.get(group, 0) + one.tokens
    for group in together:
        own = [p for p in planned if (p.point.model, p.point.quantization) == group]
        texts = {p.drifting.text.key: p.drifting.text.passages for p in own if p.drifting.text is not None}
        together[group] += sum(text.tokens for text in texts.values())
    found = []
    for place, one in enumerate(planned):
        reference = references[place]
        of_reference = None if reference is None else planned[reference]
        group_of = one if of_reference is None else of_reference
        text = one.drifting.text
        if text is not None and of_reference is not None and of_reference.drifting.text is not None:
            text = replace(text, reference=of_reference.drifting.text.key)
        drifting = Drifting(
            reference=None if of_reference is None else of_reference.point_id,
            held=tuple(dict.fromkeys(held.get(place, ()))),
            together=together.get((group_of.point.model, group_of.point.quantization), 0),
            text=text,
        )
        found.append(replace(one, drifting=drifting))
    # What a reference must keep hangs on what those held against it still lack.
    return [replace(one, needs=_with_needs(one, outputs)) for one in found]


def _with_needs(planned: PlannedPoint, outputs: Path) -> Any:
    needs = planned.needs
    drift, distributions = drift_needed(planned, outputs)
    return replace(needs, drift=drift, distributions=distributions)


def drift_needed(planned: PlannedPoint, outputs: Path) -> tuple[bool, bool]:
    """Whether the store lacks a point's drift, and what those held against it need of it."""
    stored = stored_point(outputs, planned.point_id)
    text = planned.drifting.text
    drift = lacks_samples(planned, stored) or lacks_text(planned, stored)
    distributions = False
    if planned.drifting.held:
        lacking = [
            one
            for one in planned.drifting.held
            if _lacks(stored_point(outputs, one), planned.point_id, shares(planned), planned)
        ]
        distributions = bool(lacking) and _too_little(
            read_index(samples_folder(stored)), shares(planned), planned
        )
        if text is not None and not distributions:
            wanting = any(
                stored_point(outputs, one).parts().get("drift_text", {}).get("reference") != text.key
                for one in planned.drifting.held
            )
            found = read_index(text_folder(outputs, text.key))
            distributions = wanting and _too_little(found, text_share(planned), planned)
    return drift, distributions


def lacks_samples(planned: PlannedPoint, stored: StoredPoint) -> bool:
    """Whether a point's drift along its reference's samples is not in the store."""
    reference = planned.drifting.reference
    return reference is not None and _lacks(stored, reference, shares(planned), planned)


def lacks_text(planned: PlannedPoint, stored: StoredPoint) -> bool:
    """Whether what a fixed text comes to is not in the store."""
    text = planned.drifting.text
    if text is None:
        return False
    said = stored.parts().get("drift_text")
    return (
        planned.point.engine.fresh
        or said is None
        or (said["text"], said["reference"])
        != (
            text.key,
            text.reference,
        )
    )


def _lacks(stored: StoredPoint, reference: str, share: int, planned: PlannedPoint) -> bool:
    said = stored.parts().get("drift")
    if planned.point.engine.fresh or said is None or said["reference"] != reference:
        return True
    return said["top_k"] < planned.point.record.top_k or (not said["whole"] and said["share"] < share)


def _too_little(found: ReferenceIndex | None, share: int, planned: PlannedPoint) -> bool:
    if planned.point.engine.fresh or found is None:
        return True
    return (found.left_out > 0 or not found.exact) and found.share < share


def _references(planned: Sequence[PlannedPoint], precisions: Sequence[Precision]) -> list[int | None]:
    """Of each point the place of its reference."""
    asked = planned[0].point.drift.reference
    alike: dict[tuple[str, ...], list[int]] = {}
    for place, one in enumerate(planned):
        alike.setdefault(_key(one.point), []).append(place)
    found: list[int | None] = [None] * len(planned)
    for places in alike.values():
        if asked is None:
            reference = max(places, key=lambda place: (precisions[place], -place))
            lower = [place for place in places if precisions[place] < precisions[reference]]
        else:
            named = [place for place in places if planned[place].point.quantization.name == asked]
            if not named:
                continue
            reference = named[0]
            lower = [place for place in places if planned[place].point_id != planned[reference].point_id]
        for place in lower:
            found[place] = reference
    return found


def _key(point: Point) -> tuple[str, ...]:
    """What two points must share to be held against each other."""
    parts = (point.model, point.cache, point.prompts, point.decoding, point.generation)
    return tuple(part.model_dump_json() for part in parts)


def hints(
    planned: Sequence[PlannedPoint], precisions: Sequence[Precision], own: Sequence[Precision]
) -> tuple[str, ...]:
    """How a reference is added for what has none; `own` are the precisions of the checkpoints."""
    missing: dict[str, list[str]] = {}
    for one, here, best in zip(planned, precisions, own, strict=True):
        if (
            one.point.drift.enabled
            and one.drifting.reference is None
            and not one.drifting.held
            and here < best
        ):
            names = missing.setdefault(one.point.model.name, [])
            if one.point.quantization.name not in names:
                names.append(one.point.quantization.name)
    return tuple(
        f"what {' and '.join(names)} cost {model} is told once a higher precision is in the sweep: "
        f"quantization=none,{','.join(names)}"
        for model, names in missing.items()
    )
