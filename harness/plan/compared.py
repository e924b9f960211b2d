"""The names in `compare` made full: the baseline's label, the goal's metric; a part of a name is enough."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from harness.analysis.metric_catalog import METRICS
from harness.config.expectation import matches
from harness.config.point import Point
from harness.config.suggest import did_you_mean, most_similar
from harness.errors import ConfigError, Mistake

OWN, FEEDBACK = "own/", "feedback/"
"""The sections of metrics that no catalogue knows: the user's functions, and what people say in MLflow."""
_ALIASES = {"quality/": "reference/"}
_MOST_NAMES = 6


def with_full_names(points: Sequence[Point]) -> list[Point]:
    """Return the points of a sweep with `compare.baseline` and `compare.goal` as full names.

    Raises:
        ConfigError: one of them names nothing, or several points.
    """
    compare = points[0].compare
    if len({point.compare for point in points}) > 1 or (compare.baseline is None and compare.goal is None):
        return list(points)
    mistakes: list[Mistake] = []
    changes: dict[str, str] = {}
    for key, wanted, full_name in (
        ("baseline", compare.baseline, lambda text: baseline_label(text, [point.label for point in points])),
        ("goal", compare.goal, lambda text: goal_metric(text, own_metrics(compare.metrics))),
    ):
        try:
            if wanted is not None:
                changes[key] = full_name(wanted)
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    full = compare.model_copy(update=changes)
    return [point.model_copy(update={"compare": full}) for point in points]


def baseline_label(wanted: str, labels: Sequence[str]) -> str:
    """Return the one label that is meant: itself, a glob of it, its end, or a part of it.

    Raises:
        ConfigError: none is meant, or several.
    """
    key = f"compare.baseline={wanted}"
    for meant in (_equal, matches, _is_end, _is_inside):
        found = [label for label in labels if meant(wanted, label)]
        if len(found) == 1:
            return found[0]
        if found:
            few = ", ".join(map(shlex.quote, found[:_MOST_NAMES])) + (
                f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
            )
            raise ConfigError.of(key, f"{len(found)} points are meant; name one of {few}")
    parts = list(dict.fromkeys(part for label in labels for part in re.split("[/ ]", label)))
    near = most_similar(wanted, [label for label in labels if "/" in wanted] or parts)
    hint = f"; did you mean compare.baseline={shlex.quote(near)}?" if near else ""
    few = ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")
    raise ConfigError.of(key, f"no point has this label{hint} (points: {few})")


def goal_metric(wanted: str, own: Sequence[str] = ()) -> str:
    """Return the key of the metric that is meant: a key, its last component, or its name in tables.

    Args:
        wanted: as the command names it; `quality/` stands for `reference/`.
        own: keys of custom metrics.

    Raises:
        ConfigError: there is no such metric, or several.
    """
    key = f"compare.goal={wanted}"
    name = wanted
    for alias, section in _ALIASES.items():
        if wanted.startswith(alias):
            name = section + wanted.removeprefix(alias)
    if name.startswith(FEEDBACK) and name != FEEDBACK:
        return name
    known = [*(metric.key for metric in METRICS), *own]
    if name in known:
        return name
    plain = name.lower().replace("-", "_")
    shown = [metric.key for metric in METRICS if metric.name.lower() == name.lower()]
    found = [one for one in known if one.rpartition("/")[2] == plain] or shown
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError.of(key, f"{len(found)} metrics are meant; name one of {', '.join(found)}")
    if name.startswith(OWN):
        functions = ", ".join(own) or "none; compare.metrics=[FILE.py:FUNCTION] adds one"
        message = f"no such metric{did_you_mean(name, own)} (metrics of your own: {functions})"
        raise ConfigError.of(key, message)
    references = ", ".join(one for one in known if one.startswith(("reference/", OWN)))
    by_last = {one.rpartition("/")[2]: one for one in reversed(known)}
    near = most_similar(name, known) or by_last.get(most_similar(plain.rpartition("/")[2], by_last) or "")
    hint = f"; did you mean compare.goal={near}?" if near else ""
    others = "others: text/distinct_2, latency/itl_p50_ms and what `harness help metrics` lists"
    raise ConfigError.of(key, f"no such metric{hint} (compared with a reference: {references}; {others})")


def own_metrics(specs: Sequence[str]) -> list[str]:
    """Return the keys of custom metrics, each given as FILE.py:FUNCTION."""
    return [OWN + spec.rpartition(":")[2] for spec in specs]


def _equal(wanted: str, label: str) -> bool:
    return wanted == label


def _is_end(wanted: str, label: str) -> bool:
    return re.search(f"(^|[/ ]){re.escape(wanted)}$", label) is not None


def _is_inside(wanted: str, label: str) -> bool:
    return re.search(f"(^|[/ ]){re.escape(wanted)}($|[/ ])", label) is not None
