"""What `harness help` says of plug-ins.

In the lists of a group and of the metrics each is a line, and nothing of its package is imported. Asked for
by its name it is imported, and what fails is one line.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from harness.analysis.metrics.custom import CustomMetric
from harness.cli.help_rows import row
from harness.config.plugins import BACKENDS, METRICS, PROCESSORS, Plugin, plugins
from harness.errors import HarnessError

_USED_AS = {
    METRICS: "compare.metrics=[{}]",
    PROCESSORS: "decoding.processors=[{}]",
    BACKENDS: "backend.kind={}",
}
"""How each kind of plug-in is asked for; those of `harness.conf` are choices like any other."""

_OWN = ("own/", "own_")
"""How the names of metrics and columns of the user's own begin."""


def plugin_rows(section: str) -> list[str]:
    """Return a line for each plug-in whose key is of a section: what to write, and whose it is."""
    return [
        row(used_as.format(one.name), f"of {one}", 38)
        for group, used_as in _USED_AS.items()
        if used_as.startswith(f"{section}.")
        for one in plugins(group)
    ]


def plugin_metrics() -> Iterator[tuple[str, str, str]]:
    """Yield key, name and origin of each metric of a plug-in."""
    for one in plugins(METRICS):
        yield f"own/{one.name}", one.name, f"{_USED_AS[METRICS].format(one.name)}, of {one}"


def plugin_names() -> list[str]:
    """Return the names that `plugin_help` knows."""
    return [one.name for group in _USED_AS for one in plugins(group)]


def plugin_help(name: str) -> Iterator[str]:
    """Yield what a name is: of a metric, a processor or a backend of a plug-in, or of a metric of one's own.

    Args:
        name: as it is used in a config; of a metric also `own/NAME` and its column `own_NAME`.
    """
    bare = next((name.removeprefix(start) for start in _OWN if name.startswith(start)), "")
    found = False
    for group, used_as in _USED_AS.items():
        for one in plugins(group):
            if one.name == name or (group == METRICS and one.name == bare):
                found = True
                yield row(used_as.format(one.name), f"{_described(one)}; of {one}", 38)
    if bare and not found:
        yield row(name, f"a metric of your own: the function {bare} of compare.metrics=[FILE.py:{bare}]", 38)


def _described(one: Plugin) -> str:
    try:
        if one.group == METRICS:
            metric = CustomMetric(one.name, b"", one).described()
            better = f"; {metric.better} is better" if metric.better else ""
            return f"metric {metric.key}: {metric.description.rstrip('.')}{better}"
        loaded = one.load()
    except HarnessError as error:
        return str(error)
    lines = (inspect.getdoc(loaded) or one.reference).strip().splitlines()
    return ". ".join([lines[0].rstrip("."), *_settings(loaded)])


def _settings(loaded: Any) -> Iterator[str]:
    """What may be set beside `path`: the parameters with defaults."""
    try:
        parameters = inspect.signature(loaded).parameters.values()
    except (TypeError, ValueError):
        return
    given = [f"{p.name} [{p.default}]" for p in parameters if p.default is not inspect.Parameter.empty]
    if given:
        yield f"Settings: {', '.join(given)}"
