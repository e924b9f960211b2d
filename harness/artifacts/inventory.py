"""What the store holds of points, without what is damaged: damage counts as absence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.artifacts.artifact import Artifact
from harness.store.integrity import problem_of
from harness.store.stored_point import StoredPoint, stored_point


class _Found(NamedTuple):
    """The sound artifacts of a point, and its damaged files with what is wrong with each."""

    parts: dict[str, Any]
    damage: dict[str, str]


class Inventory:
    """What the store holds of points; each is looked at once, when it is first asked for.

    Args:
        outputs: folder of the store.
        artifacts: all that there are.
        thorough: whether large files are read, too, instead of a look at their size and ends.
    """

    def __init__(self, outputs: Path, artifacts: Sequence[Artifact], thorough: bool = False) -> None:
        self.outputs = outputs
        self._artifacts = artifacts
        self._thorough = thorough
        self._found: dict[str, _Found] = {}

    def parts(self, point_id: str) -> dict[str, Any]:
        """Return the entries of a point's parts.json whose files are all there and sound."""
        return self._look(point_id).parts

    def damage(self, point_ids: Iterable[str]) -> tuple[str, ...]:
        """Return a line for each damaged file of these points."""
        return tuple(
            f"{stored_point(self.outputs, point_id).path(name)} {problem}"
            for point_id in dict.fromkeys(point_ids)
            for name, problem in self._look(point_id).damage.items()
        )

    def repair(self, point_id: str) -> tuple[str, ...]:
        """Delete the damaged files of a point and its artifacts that had them; its lock must be held.

        Returns:
            A line for each damaged file.
        """
        stored, found = stored_point(self.outputs, point_id), self._look(point_id)
        if found.damage:
            for name in found.damage:
                _delete(stored.path(name))
            stored.write_parts(found.parts, unsealed=found.damage)
        return self.damage([point_id])

    def _look(self, point_id: str) -> _Found:
        if point_id not in self._found:
            self._found[point_id] = self._inspect(stored_point(self.outputs, point_id))
        return self._found[point_id]

    def _inspect(self, stored: StoredPoint) -> _Found:
        if problem := stored.parts_problem():
            return _Found({}, {"parts.json": problem})
        if not stored.has("parts.json"):
            # Metrics are computed after it was written.
            return _Found({}, {"parts.json": "is missing"} if stored.has("metrics.json") else {})
        parts, seals, damage = stored.parts(), stored.seals(), dict[str, str]()
        for artifact in (one for one in self._artifacts if one.name in parts):
            promised = [name for name in artifact.files if name in seals or name not in artifact.optional]
            for name in promised:
                if problem := problem_of(
                    stored.path(name), seals.get(name), stored.point_id, thorough=self._thorough
                ):
                    damage[name] = problem
            if not damage.keys().isdisjoint(promised):
                del parts[artifact.name]
        return _Found(parts, damage)


def _delete(path: Path) -> None:
    path.unlink(missing_ok=True)
