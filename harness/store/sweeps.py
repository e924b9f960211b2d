"""The record of a sweep: `outputs/sweeps/<name>-<sweep_id>/plan.json`, its points and what became of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from harness.config.secret_text import safe_address
from harness.errors import ConfigError
from harness.store.files import read_json, storable, write_text
from harness.store.integrity import checked, with_check

_CURE = "the same command again writes it anew, and decodes nothing that is stored"

Status = Literal["planned", "done", "reused", "failed", "interrupted"]


@dataclass(frozen=True)
class SweepPoint:
    """A point of a sweep.

    Attributes:
        label: unique in the sweep; names the MLflow run, the row and the column.
        point_id: address in the store; empty while it is unknown (the model could not be read).
        model, quantization, prompts, decoding: names of its choices.
        varied: every key that differs between points of the sweep, with this point's value.
        status: `done` ran in this sweep, `reused` came from the store.
        error: one line, for a failed point.
        traceback: for a failed point.
        warnings: what its user should know, one line each.
        started, ended: seconds since the epoch; None until it ran.
    """

    label: str
    point_id: str
    model: str
    quantization: str
    prompts: str
    decoding: str
    varied: Mapping[str, Any] = field(default_factory=dict)
    status: Status = "planned"
    error: str | None = None
    traceback: str | None = None
    warnings: tuple[str, ...] = ()
    started: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class Sweep:
    """The points of one command.

    Attributes:
        name: the folder's: the one that the command gives, the experiment's, or `sweep`.
        sweep_id: hash of the sorted point ids.
        folder: where plan.json and the reports of the sweep lie.
        tracking: the Tracking part of the config, as a plain dict.
        points: in the order of the command.
        started: seconds since the epoch.
        compare: the Compare part of the config, as a plain dict.
        expect: what is expected of the points, each entry as a plain dict.
        title: the name that people see: as the command gives it, or what is fixed and what varies. The text
            of a user, to be escaped; the folder's name in records of before there were titles.
    """

    name: str
    sweep_id: str
    folder: Path
    tracking: Mapping[str, Any]
    points: tuple[SweepPoint, ...]
    started: float
    compare: Mapping[str, Any] = field(default_factory=dict)
    expect: tuple[Mapping[str, Any], ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.name)

    def with_point(self, index: int, **changes: Any) -> Sweep:
        """Return the sweep with some facts of one point changed."""
        points = list(self.points)
        points[index] = replace(points[index], **changes)
        return replace(self, points=tuple(points))

    def save(self) -> None:
        """Write plan.json by atomic rename, without the secrets of the tracking URI."""
        facts = asdict(self)
        if self.tracking.get("uri"):
            facts["tracking"]["uri"] = safe_address(self.tracking["uri"])
        del facts["folder"]
        # As it will be read: a checksum over what JSON makes of it.
        facts = json.loads(storable(json.dumps(facts, default=str, ensure_ascii=False)))
        text = json.dumps(with_check(facts, self.sweep_id), indent=1, ensure_ascii=False)
        write_text(self.folder / "plan.json", text + "\n")


def sweep_id_of(point_ids: Iterable[str]) -> str:
    """Return the sweep's address: ten hex digits of the hash of its sorted point ids."""
    return hashlib.sha256("\n".join(sorted(point_ids)).encode()).hexdigest()[:10]


def load_sweep(folder: Path) -> Sweep:
    """Read a sweep's plan.json; what a newer version wrote beside what is known here is left out.

    Raises:
        ConfigError: it is damaged, or of another version that says less than is needed.
    """
    path = folder / "plan.json"
    values = read_json(path)
    sweep_id = str(values.get("sweep_id")) if isinstance(values, dict) else ""
    facts = checked(values, sweep_id)
    if facts is None:
        raise ConfigError.of("", f"{path} is damaged; {_CURE}")
    if not folder.name.endswith(sweep_id):
        raise ConfigError.of("", f"{path} is of another sweep ({sweep_id}); {_CURE}")
    try:
        points = tuple(
            SweepPoint(**{**_known(SweepPoint, point), "warnings": tuple(point.get("warnings", ()))})
            for point in facts["points"]
        )
        rest = _known(Sweep, facts) | {"folder": folder, "points": points}
        return Sweep(**rest | {"expect": tuple(facts.get("expect", ()))})
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError.of(
            "", f"{path} is of another version ({' '.join(str(error).split())}); {_CURE}"
        ) from error


def _known(record: type, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that a record has fields for."""
    names = {one.name for one in fields(record)}
    return {name: value for name, value in facts.items() if name in names}


def find_sweep(outputs: Path, wanted: str | None) -> Sweep:
    """Return the sweep whose folder, title or id is `wanted`; the last one that was run when it is None.

    The same points under several names are one sweep: its last record is returned.

    Raises:
        ConfigError: there is none, or several match.
    """
    folders = sorted((outputs / "sweeps").glob("*/plan.json"), key=lambda path: path.stat().st_mtime)
    if not folders:
        raise ConfigError.of("", f"no sweep was run yet in {outputs}; `harness experiments=demo` runs one")
    if wanted is None:
        return load_sweep(folders[-1].parent)
    names = [path.parent.name for path in folders]
    matches = [name for name in names if name.startswith(wanted) or _id_in(name).startswith(wanted)]
    matches = [wanted] if wanted in names else matches
    if not matches:
        matches = [name for name in names if _title_of(outputs / "sweeps" / name) == wanted]
    if matches and len(set(map(_id_in, matches))) == 1:
        return load_sweep(outputs / "sweeps" / matches[-1])
    known = ", ".join(matches or names[-5:])
    problem = "names several sweeps" if matches else "no such sweep"
    raise ConfigError.of("", f"{wanted!r}: {problem} (sweeps: {known})")


def _id_in(folder: str) -> str:
    """Return the sweep's id in the name of its folder."""
    return folder.rpartition("-")[2]


def _title_of(folder: Path) -> str:
    """Return the title of a sweep; nothing where its record cannot be read."""
    try:
        return load_sweep(folder).title
    except ConfigError:
        return ""
