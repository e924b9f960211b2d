"""What a sweep's process and its tracking process tell each other: lines of JSON, through pipes.

To the tracking process: `open` with the tracking URI and the whole sweep, `log` with the index of a point,
`close` with status and answer, and `cancel`, which drops the points that are still queued. `log` and `close`
carry the points that have changed since the line before. From it: `warning`, and `closed` with the links.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from harness.store.sweeps import Sweep, SweepPoint


def line_of(kind: str, **values: Any) -> bytes:
    """Return a line; a value that JSON does not have is written as its text, as in plan.json."""
    return json.dumps({"kind": kind, **values}, default=str).encode() + b"\n"


def read_lines(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the lines of a stream; one that was cut off by the end of its writer is left out."""
    for text in stream:
        if text.endswith(b"\n"):
            yield json.loads(text)


def sweep_json(sweep: Sweep) -> dict[str, Any]:
    """Return a whole sweep as plain values, with its secrets: for a pipe, never for a file."""
    return asdict(sweep) | {"folder": str(sweep.folder)}


def sweep_from_json(facts: Mapping[str, Any]) -> Sweep:
    """Return the sweep that `sweep_json` wrote."""
    points = tuple(_point(one) for one in facts["points"])
    rest = {"folder": Path(facts["folder"]), "points": points, "expect": tuple(facts["expect"])}
    return Sweep(**{**facts, **rest})


def changed_points(before: Sweep, sweep: Sweep) -> dict[str, Any]:
    """Return the points of a sweep that are other records than before, by index."""
    pairs = enumerate(zip(before.points, sweep.points, strict=True))
    return {str(index): asdict(new) for index, (old, new) in pairs if old is not new}


def with_points(sweep: Sweep, changed: Mapping[str, Any]) -> Sweep:
    """Return the sweep with the points that `changed_points` gave."""
    points = list(sweep.points)
    for index, facts in changed.items():
        points[int(index)] = _point(facts)
    return replace(sweep, points=tuple(points))


def _point(facts: Mapping[str, Any]) -> SweepPoint:
    return SweepPoint(**{**facts, "warnings": tuple(facts["warnings"])})
