"""A stored point by what people call it: its id, the beginning of it, or its label in a sweep."""

from __future__ import annotations

from pathlib import Path

from harness.config.suggest import did_you_mean
from harness.errors import ConfigError
from harness.store.stored_point import StoredPoint, stored_point
from harness.store.sweeps import Sweep, find_sweep


def find_point(outputs: Path, wanted: str) -> tuple[StoredPoint, str]:
    """The point that `wanted` names, and what it is called.

    Args:
        outputs: folder of the store.
        wanted: a point's id or the beginning of one, a label in the last sweep, or SWEEP/LABEL.

    Raises:
        ConfigError: there is none, it was not run, or several begin so.
    """
    folders = sorted(path.name for path in (outputs / "points").glob("*") if path.is_dir())
    if wanted in folders:
        return stored_point(outputs, wanted), wanted
    labels: list[str] = []
    for sweep, label in _sweeps(outputs, wanted):
        labels += [point.label for point in sweep.points]
        for point in sweep.points:
            if point.label == label:
                if point.point_id not in folders:
                    raise ConfigError.of(wanted, f"this point is {point.status}, nothing of it is stored")
                return stored_point(outputs, point.point_id), label
    begin = [name for name in folders if name.startswith(wanted)]
    if len(begin) == 1:
        return stored_point(outputs, begin[0]), begin[0]
    if begin:
        raise ConfigError.of(wanted, f"{len(begin)} points begin so: {', '.join(begin[:5])}")
    if not folders:
        raise ConfigError.of(wanted, f"no point is stored in {outputs}; `harness experiments=demo` runs some")
    hint = did_you_mean(wanted, labels) if labels else ""
    cure = "give a point's id, a label of the last sweep, or SWEEP/LABEL"
    raise ConfigError.of(wanted, f"no stored point has this id or label{hint or f'; {cure}'}")


def _sweeps(outputs: Path, wanted: str) -> list[tuple[Sweep, str]]:
    """The sweeps in which to look, each with the label to look for."""
    found = []
    first, _, rest = wanted.partition("/")
    for name, label in ((None, wanted), (first, rest)):
        try:
            if label:
                found.append((find_sweep(outputs, name), label))
        except ConfigError:
            continue
    return found
