"""Points that need no decoding: replay shows that a stored one made the same choices at every step.

Only what is exact is taken: where each kept token was recorded, the probabilities under the new strategy
are as a real run would have written them, to the rounding of float32. In lower precisions a run's own
distributions hang on the layout of its batches; a taken point has those of the stored one's.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.points import point_config
from harness.errors import ConfigError
from harness.plan.plan import Plan, PlannedPoint, as_of_now
from harness.store.files import atomic_path
from harness.store.locks import lock
from harness.store.stored_point import StoredPoint, stored_point

if TYPE_CHECKING:
    import pyarrow as pa

    from harness.analysis.replay import Replayer, StoredSteps, Warp

_FIRST = 48
"""Steps that are replayed before all are: most points part early."""

_MOST = 16
"""Stored points that are tried for one point, those of the most similar strategies."""


@dataclass(frozen=True)
class _Source:
    """A stored point that another may equal."""

    stored: StoredPoint
    parts: Mapping[str, Any]

    @property
    def made(self) -> Mapping[str, Any]:
        return self.parts["made"]

    @cached_property
    def warp(self) -> Warp | None:
        """The strategy that made it; None if replay does not know it."""
        from harness.analysis.replay import known_warp

        return known_warp(self.made["decoding"])

    @cached_property
    def vocabulary(self) -> float:
        from harness.analysis.replay import vocabulary_of

        return vocabulary_of(self.stored)

    @cached_property
    def first(self) -> StoredSteps | None:
        from harness.analysis.replay import first_steps

        return first_steps(self.stored, self.vocabulary, _FIRST)


def same_points(plan: Plan) -> dict[int, str]:
    """Of the points whose samples are to be made, those that are the same as a stored one.

    Returns:
        Index of the point in the plan -> id of the stored point.
    """
    wanted = {place: planned for place, planned in enumerate(plan.points) if _may_be_taken(planned)}
    if not wanted:
        return {}
    sources = _sources(plan.outputs, {planned.family for planned in wanted.values()})
    found = {}
    for place, planned in wanted.items():
        for source in _likely(planned, sources.get(planned.family, [])):
            if _is_same(planned, source):
                found[place] = source.stored.point_id
                break
    return found


def _may_be_taken(planned: PlannedPoint) -> bool:
    """Whether the samples are missing, may come from the store, and depend on nothing but their own text:
    the outlier columns of bitsandbytes' int8 hang on all that is decoded together."""
    fresh, int8 = planned.point.engine.fresh, planned.point.quantization.load_in_8bit
    return planned.needs.samples and not fresh and not int8


def _likely(planned: PlannedPoint, sources: Sequence[_Source]) -> list[_Source]:
    """The stored points that the planned one may equal, the likeliest first, and not too many."""
    from harness.analysis.replay import known_warp, unlikeness

    new = known_warp(planned.effective) if sources else None
    if new is None:
        return []
    ranked = []
    for source in sources:
        # Whoever drew by other luck made other choices, but for strategies that leave no choice.
        drawn = new.draws and source.warp is not None and source.warp.draws
        luck = not drawn or source.made["seed"] == planned.point.generation.seed
        deep = source.parts["record"]["top_k"] >= max(planned.point.record.top_k, 1)
        if luck and deep and source.stored.point_id != planned.point_id:
            unlike = math.inf if source.warp is None else unlikeness(new, source.warp)
            ranked.append((unlike, source.stored.point_id, source))
    return [source for _, _, source in sorted(ranked, key=lambda one: one[:2])[:_MOST]]


def taken_away(plan: Plan, same: Mapping[int, str]) -> Plan:
    """The plan as it is once the points that ask for it are taken from the store."""
    points = list(plan.points)
    for place in same:
        if points[place].point.engine.replay:
            needs = replace(points[place].needs, samples=False, description=False, metrics=False)
            points[place] = replace(points[place], needs=needs)
    return replace(plan, points=tuple(points))


def take(planned: PlannedPoint, source_id: str, outputs: Path, on_wait: Callable[[], None]) -> PlannedPoint:
    """Write a point from the stored one that it equals.

    Args:
        planned: the point.
        source_id: what `same_points` found.
        outputs: folder of the store.
        on_wait: called when another process is at work on one of them.

    Returns:
        The point with what the store lacks of it now: its samples still, if the stored point has become
        another meanwhile.
    """
    with lock(outputs, {planned.point_id, source_id}, on_wait):
        planned = as_of_now(planned, outputs)
        source = _source(stored_point(outputs, source_id))
        found = [] if source is None or source.made["family"] != planned.family else [source]
        if planned.needs.samples and any(_is_same(planned, one) for one in _likely(planned, found)):
            assert source is not None
            _write(planned, source, stored_point(outputs, planned.point_id))
        return as_of_now(planned, outputs)


def _sources(outputs: Path, families: set[str]) -> dict[str, list[_Source]]:
    """The stored points of some families."""
    found: dict[str, list[_Source]] = {}
    for path in sorted((outputs / "points").glob("*/parts.json")):
        source = _source(StoredPoint(path.parent))
        if source is not None and source.made["family"] in families:
            found.setdefault(source.made["family"], []).append(source)
    return found


def _source(stored: StoredPoint) -> _Source | None:
    """A stored point that is whole, and new enough to tell how it was made."""
    try:
        parts = stored.parts()
    except (OSError, ValueError):  # it goes away, or is replaced, while we look
        return None
    return _Source(stored, parts) if parts.get("described") and "made" in parts else None


def _is_same(planned: PlannedPoint, source: _Source) -> bool:
    """Whether every choice is the same, and everything that is recorded of it known exactly."""
    from harness.analysis.replay import read_steps, taken_columns

    replayer = _replayer(planned, source)
    try:
        if source.first is None or taken_columns(replayer, source.first) is None:
            return False
        steps = read_steps(source.stored, source.vocabulary)
        return all(taken_columns(replayer, some) is not None for some in steps)
    except (OSError, ConfigError):
        return False


def _replayer(planned: PlannedPoint, source: _Source) -> Replayer:
    """The planned strategy over the stored samples."""
    from harness.analysis.replay import Replayer, Seeds, warp_of

    seeds = Seeds(new=planned.point.generation.seed, old=source.made["seed"])
    return Replayer(warp_of(planned.effective), source.warp, seeds)


def _write(planned: PlannedPoint, source: _Source, target: StoredPoint) -> None:
    """The files of the point; they count once the last of them, parts.json, is there."""
    before = target.parts()
    kept = {name: before[name] for name in ("timing", "prompt_logprobs") if name in before}
    target.path("parts.json").unlink(missing_ok=True)
    if target.path("partial").exists():
        shutil.rmtree(target.path("partial"))
    _write_tokens(planned, source, target)
    generations = source.stored.table("generations")
    target.write_table("generations", _with_seed(generations, planned.point.generation.seed))
    if planned.needs.prompt_scores and source.parts.get("prompt_logprobs"):
        target.write_table("prompt_tokens", source.stored.table("prompt_tokens"))
        kept["prompt_logprobs"] = True
    origin = source.parts["facts"].get("replayed_from", source.stored.point_id)
    environment = source.stored.environment()
    how = {name: value for name, value in environment.items() if name not in ("batch_rows", "captured")}
    target.write_json("environment.json", how | {"replayed_from": origin})
    effective = source.stored.config()["effective"] | {"decoding": dict(planned.effective)}
    target.write_config({"requested": point_config(planned.point), "effective": effective})
    new = {
        "record": source.parts["record"],
        "facts": {"replayed_from": origin},
        "made": planned.made,
        "described": True,
    }
    target.write_json("parts.json", kept | new)


def _write_tokens(planned: PlannedPoint, source: _Source, target: StoredPoint) -> None:
    """The source's tokens with their probabilities under the new strategy, some rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from harness.analysis.replay import steps_of, taken_columns, whole_samples

    replayer = _replayer(planned, source)
    schema = pq.read_schema(source.stored.path("tokens.parquet"))
    with (
        atomic_path(target.path("tokens.parquet")) as scratch,
        pq.ParquetWriter(scratch, schema, compression="zstd") as writer,
    ):
        for batch in whole_samples(source.stored):
            columns = taken_columns(replayer, steps_of(batch, source.vocabulary, source.stored.point_id))
            assert columns is not None  # `_is_same` has just seen it
            table = pa.Table.from_batches([batch])
            for name, values in columns.items():
                place = schema.get_field_index(name)
                arrays = values.tolist() if values.ndim == 2 else values
                table = table.set_column(
                    place, schema.field(place), pa.array(arrays, type=schema.field(place).type)
                )
            writer.write_table(table)


def _with_seed(generations: pa.Table, seed: int) -> pa.Table:
    import pyarrow as pa

    place = generations.schema.get_field_index("seed")
    field = generations.schema.field(place)
    return generations.set_column(place, field, pa.array([seed] * len(generations), type=field.type))
