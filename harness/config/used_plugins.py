"""Which plug-ins a point depends on: what its record of the environment names beside the libraries."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.plugins import BACKENDS, METRICS, PROCESSORS, Plugin, conf_folders, plugin
from harness.config.point import Point
from harness.config.schema import choice_sections
from harness.errors import ConfigError


def used_plugins(point: Point) -> dict[str, str]:
    """Return the versions of the distributions that a point uses something of, by name."""
    return {one.distribution: one.version for one in _used(point)}


def _used(point: Point) -> Iterator[Plugin]:
    for section in choice_sections():
        name = getattr(point, section).name
        yield from (one for one, folder in conf_folders() if (folder / section / f"{name}.yaml").is_file())
    names = [(METRICS, spec) for spec in point.compare.metrics if ":" not in spec]
    for value in point.decoding.processors or ():
        path = value if isinstance(value, str) else value["path"]
        names += [(PROCESSORS, path)] if ":" not in path else []
    names.append((BACKENDS, point.backend.kind))
    for group, name in names:
        try:
            found = plugin(group, name, group)
        except ConfigError:  # a clash, which was told of before anything ran
            continue
        if found is not None:
            yield found
