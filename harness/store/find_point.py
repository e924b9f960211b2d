"""Find a stored point by its id, a prefix of it, or its label in a sweep."""

from __future__ import annotations

from collections.abc import Set
from contextlib import suppress
from pathlib import Path

from harness.config.suggest import did_you_mean
from harness.errors import ConfigError
from harness.store.stored_point import StoredPoint, stored_point
from harness.store.sweeps import Sweep, find_sweep, load_sweep


def find_point(outputs: Path, wanted: str) -> tuple[StoredPoint, str]:
    """Return the point that `wanted` names, and its name.

    Args:
        outputs: folder of the store.
        wanted: a point's id or a prefix of one, a label in the last sweep, or SWEEP/LABEL.

    Raises:
        ConfigError: there is none, it was not run, or the prefix is ambiguous.
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
                    raise ConfigError.of(wanted, f"this point is {point.status}; nothing of it is stored")
                return stored_point(outputs, point.point_id), label
    matching = [name for name in folders if name.startswith(wanted)]
    if len(matching) == 1:
        return stored_point(outputs, matching[0]), matching[0]
    if matching:
        listed = ", ".join(matching[:5])
        raise ConfigError.of(wanted, f"ambiguous: {len(matching)} points have this prefix: {listed}")
    if not folders:
        raise ConfigError.of(
            wanted, f"no points are stored in {outputs}; `harness experiments=demo` runs some"
        )
    elsewhere = _elsewhere(outputs, wanted, set(folders))
    hint = f"; did you mean {elsewhere}?" if elsewhere else did_you_mean(wanted, labels) if labels else ""
    cure = "give a point's id, a label of the last sweep, or SWEEP/LABEL"
    raise ConfigError.of(wanted, f"no stored point has this id or label{hint or f'; {cure}'}")


def _elsewhere(outputs: Path, label: str, stored: Set[str]) -> str | None:
    """Return SWEEP/LABEL of the last other sweep that has a stored point of this label; None without one."""
    plans = (outputs / "sweeps").glob("*/plan.json")
    for path in sorted(plans, key=lambda one: one.stat().st_mtime, reverse=True):
        with suppress(ConfigError):
            for point in load_sweep(path.parent).points:
                if point.label == label and point.point_id in stored:
                    return f"{path.parent.name}/{label}"
    return None


def _sweeps(outputs: Path, wanted: str) -> list[tuple[Sweep, str]]:
    """Return the sweeps to search, each with the label to search for."""
    found = []
    first, _, rest = wanted.partition("/")
    for name, label in ((None, wanted), (first, rest)):
        if label:
            with suppress(ConfigError):
                found.append((find_sweep(outputs, name), label))
    return found
