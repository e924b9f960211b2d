"""What MLflow gets of a point as plain values: its name, tags and metrics."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.expectations import CheckedExpectation, check_summary, missed
from harness.analysis.metric_catalog import Metric, metric_of, metrics_from_json
from harness.analysis.point_results import CHOICES
from harness.analysis.prompt_titles import turns_of
from harness.config.labels import short, value_text
from harness.config.sweep_name import UNNAMED
from harness.report.key_metrics import REFERENCE_METRICS
from harness.report.point_names import short_names
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint
from harness.terminal import visible

# Longest texts, in characters, of a tag and a key.
MAX_TAG = 5000
MAX_KEY = 250
LAYOUT = "3"
"""Of a point's run; one that was logged in another is logged again."""
EXPECTATIONS = "expectations"
"""The tag with the result of `expect`."""
MOST_VALUES = 4
"""Values of a key that the name of a sweep's run lists."""
PROMPTS_BY_STEP = 1000
"""Prompts whose metrics are logged one by one; metrics.json has all."""

RENAMED = {"reference/": "quality/"}
"""Sections of metrics.json, and what MLflow's runs have instead (`quality/chrf`)."""


def mlflow_key(name: str) -> str:
    """Return a legal MLflow key: characters other than letters, digits and `_-.:/ ` become `_`."""
    return re.sub(r"[^\w\-.:/ ]", "_", name, flags=re.ASCII)[:MAX_KEY].strip("./ ") or "_"


def run_names(sweep: Sweep) -> dict[str, str]:
    """Return the names of the points' runs by label: what varies first, then what is the same for all.

    The UI shows the beginning of a name. The label is a tag.
    """
    names = {}
    for point, name in zip(sweep.points, short_names(sweep.points), strict=True):
        same = [choice for choice in CHOICES if len({getattr(p, choice) for p in sweep.points}) == 1]
        rest = "/".join(getattr(point, choice) for choice in same if choice != "prompts")
        names[point.label] = name if name == visible(point.label) or not rest else f"{name} · {visible(rest)}"
    return names


def sweep_run_name(sweep: Sweep) -> str:
    """Return the name of a sweep's run: as the user named it, else what varies, then what all points share.

    The UI shows the beginning of a name, in which the titles of unnamed sweeps are alike. The title is a tag.
    """
    if sweep.name != UNNAMED:
        return sweep.title
    varying = [name for name in CHOICES if len({getattr(p, name) for p in sweep.points}) > 1]
    values: dict[str, list[str]] = {}
    for point in sweep.points:
        for name in varying:
            values.setdefault(name, []).append(str(getattr(point, name)))
        for key, value in point.varied.items():
            if key not in CHOICES:
                values.setdefault(key, []).append(value_text(value))
    texts = []
    for key, found in values.items():
        distinct = list(dict.fromkeys(found))
        more = f",+{len(distinct) - MOST_VALUES}" if len(distinct) > MOST_VALUES else ""
        of_key = "" if key in CHOICES else f"{short(key)}="
        texts.append(f"{of_key}{','.join(distinct[:MOST_VALUES])}{more}")
    same = [getattr(sweep.points[0], name) for name in ("prompts", *CHOICES) if name not in varying]
    parts = [" x ".join(texts), *dict.fromkeys(name for name in same if name not in ("", "none"))]
    return visible(" · ".join(filter(None, parts)))[:MAX_KEY] or sweep.title


def point_tags(sweep: Sweep, point: SweepPoint) -> dict[str, str]:
    """Return the tags by which both the runs and the traces of a point are found."""
    return {
        "sweep_id": sweep.sweep_id,
        "sweep": sweep.name,
        "point_id": point.point_id,
        "label": point.label,
        "model": point.model,
        "quantization": point.quantization,
        "prompts": point.prompts,
        "decoding": point.decoding,
    }


def tags_of(sweep: Sweep, point: SweepPoint) -> dict[str, str]:
    """Return the tags by which the runs of points are found and sorted."""
    tags = {**point_tags(sweep, point), "kind": "generation", "status": point.status}
    for key, value in point.varied.items():
        tags.setdefault(mlflow_key(key), str(value))
    if point.warnings:
        tags["warnings"] = "\n".join(point.warnings)
    if point.error:
        tags["error"] = point.error
    return {key: value[:MAX_TAG] for key, value in tags.items()}


def metric_key(key: str) -> str:
    """Return the key under which MLflow has a metric of metrics.json: legal, in the contract's sections."""
    for section, name in RENAMED.items():
        if key.startswith(section):
            key = name + key.removeprefix(section)
    return mlflow_key(key)


def rounded(metric: Metric, value: float) -> float:
    """Return a value with the decimals that it is shown with, but no fewer than three significant digits."""
    size = math.floor(math.log10(abs(value))) if value else 0
    return round(value, max(metric.decimals, 2 - size))


def metrics_of(stored: StoredPoint) -> dict[str, float]:
    """Return the metrics to log; MLflow draws a chart for each, so the catalogue says which ones.

    Finite numbers only: MLflow would store infinities as 1.8e308 and draw NaN as gaps.
    """
    known = stored.metrics() if stored.has("metrics.json") else {}
    custom = metrics_from_json(known)
    return {
        metric_key(key): rounded(metric_of(key, custom), float(value))
        for key, value in known.get("metrics", {}).items()
        if metric_of(key, custom).visibility != "tables" and _is_finite(value)
    }


def per_prompt_of(stored: StoredPoint) -> list[tuple[str, float, int]]:
    """Return (`prompt/<metric>`, value, step) of the key metrics; the step is the prompt's index.

    Of the first PROMPTS_BY_STEP prompts; metrics.json has all.
    """
    per_prompt = stored.metrics().get("per_prompt", {}) if stored.has("metrics.json") else {}
    return [
        (mlflow_key(f"prompt/{key.rpartition('/')[2]}"), rounded(metric_of(key), float(value)), step)
        for key, values in per_prompt.items()
        if metric_of(key).visibility == "headline" or key in REFERENCE_METRICS
        for step, value in enumerate(values[:PROMPTS_BY_STEP])
        if _is_finite(value)
    ]


def asked(row: Mapping[str, Any]) -> str:
    """Return what a sample's model was asked, of a row of generations.parquet: a chat's last message."""
    messages = [turn.content for turn in turns_of(row.get("messages")) if turn.role == "user"]
    return messages[-1] if messages else str(row["prompt"])


def expectations_tag(checked: Sequence[CheckedExpectation], with_labels: bool = False) -> str:
    """Return `3 passed`, or `1 of 3 missed: ...` with the missed ones; empty when nothing was expected."""
    if not checked:
        return ""
    lines = [f"{one.label}: {one.line}" if with_labels else one.line for one in missed(checked)]
    return ": ".join([check_summary(checked), *(["; ".join(lines)] if lines else [])])[:MAX_TAG]


def point_digest(stored: StoredPoint | None, failure: str = "") -> str:
    """Return a hash of samples, numbers and config, or of a failure, by which a run is seen to be current."""
    digest = hashlib.sha256(f"{LAYOUT}{failure}".encode("utf-8", "replace"))
    for name in ("generations.parquet", "metrics.json", "config.yaml", "timing.parquet") if stored else ():
        digest.update(name.encode())
        if stored and stored.has(name):
            digest.update(stored.path(name).read_bytes())
    return digest.hexdigest()[:16]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
