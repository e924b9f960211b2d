"""What MLflow gets of a point as plain values: params, tags, metrics and the table of generations."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.analysis.expectations import CheckedExpectation, check_summary, missed
from harness.analysis.metric_catalog import metric_of
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint

# Longest texts, in characters, of a param, a tag, a key and a cell of the table.
MAX_PARAM = 6000
MAX_TAG = 5000
MAX_KEY = 250
MAX_CELL = 20_000
EXPECTATIONS = "expectations"
"""The tag with the result of `expect`."""
TABLE_MB = 2.0
TABLE_ROWS = 1000
"""Limits of generations.json: to compare runs, the UI reads ten of them whole and lays out every row."""
TABLE_TAG = json.dumps([{"path": "generations.json", "type": "table"}])
"""Value of `mlflow.loggedArtifacts`, by which the UI recognises an artifact as a table."""


def mlflow_key(name: str) -> str:
    """Return a legal MLflow key: characters other than letters, digits and `_-.:/ ` become `_`."""
    return re.sub(r"[^\w\-.:/ ]", "_", name, flags=re.ASCII)[:MAX_KEY].strip("./ ") or "_"


def flatten(config: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted keys and the texts of a nested config; null is left out, lists are JSON."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif config is not None:
        if isinstance(config, bool | list | tuple):
            config = json.dumps(config, ensure_ascii=False, default=str)
        yield prefix, str(config)


def params_of(stored: StoredPoint) -> dict[str, str]:
    """Return the params: the requested config, flattened; the effective decoding below `effective.`."""
    config = stored.config() if stored.has("config.yaml") else {}
    params = dict(flatten(config.get("requested") or {}))
    params.update(flatten(config.get("effective") or {}, "effective"))
    return {mlflow_key(key): value[:MAX_PARAM] for key, value in params.items()}


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


def metrics_of(stored: StoredPoint) -> dict[str, float]:
    """Return the metrics to log; MLflow draws a chart for each, so the catalogue says which ones.

    Finite numbers only: MLflow would store infinities as 1.8e308 and draw NaN as gaps.
    """
    metrics = stored.metrics().get("metrics", {}) if stored.has("metrics.json") else {}
    return {
        mlflow_key(key): float(value)
        for key, value in metrics.items()
        if metric_of(key).visibility != "tables" and _is_finite(value)
    }


def per_prompt_of(stored: StoredPoint) -> list[tuple[str, float, int]]:
    """Return (`prompt/<metric>`, value, step) of the headline metrics; the step is the prompt's index.

    Of the first TABLE_ROWS prompts; metrics.json has all.
    """
    per_prompt = stored.metrics().get("per_prompt", {}) if stored.has("metrics.json") else {}
    return [
        (mlflow_key(f"prompt/{key.rpartition('/')[2]}"), float(value), step)
        for key, values in per_prompt.items()
        if metric_of(key).visibility == "headline"
        for step, value in enumerate(values[:TABLE_ROWS])
        if _is_finite(value)
    ]


def expectations_tag(checked: Sequence[CheckedExpectation], with_labels: bool = False) -> str:
    """Return `3 passed`, or `1 of 3 missed: ...` with the missed ones; empty when nothing was expected."""
    if not checked:
        return ""
    lines = [f"{one.label}: {one.line}" if with_labels else one.line for one in missed(checked)]
    return ": ".join([check_summary(checked), *(["; ".join(lines)] if lines else [])])[:MAX_TAG]


COLUMNS = ("prompt", "output", "finish_reason", "output_tokens", "mean_logprob", "sample")


def generations_json(
    stored: StoredPoint, budget_mb: float = TABLE_MB, max_rows: int = TABLE_ROWS
) -> tuple[str, str]:
    """Return the first rows of generations.parquet as a table, and a note of how many are left out, if any.

    The UI compares runs by the table's first column, whose values must be unique; so with several samples it
    is `prompt_id #sample`. The points of a sweep show the same prompts: rows are left out from the end.
    """
    samples = stored.columns("generations", ["sample"])["sample"]
    several = any(samples)
    bytes_left, rows = budget_mb * 1e6, list[str]()
    for sample in (sample for batch in stored.row_batches("generations", 100) for sample in batch):
        name = f"{sample['prompt_id']} #{sample['sample']}" if several else sample["prompt_id"]
        row = json.dumps([name, *(_cell(sample.get(column)) for column in COLUMNS)])
        bytes_left -= len(row)
        if rows and (bytes_left < 0 or len(rows) == max_rows):
            break
        rows.append(row)
    head, note = json.dumps(["prompt_id", *COLUMNS]), ""
    if len(rows) < len(samples):
        counts = f"{len(rows)} of {len(samples)}"
        note = f"the first {counts} are in generations.json, all in generations.parquet"
    return f'{{"columns": {head}, "data": [{", ".join(rows)}]}}', note


def point_digest(stored: StoredPoint | None, failure: str = "") -> str:
    """Return a hash of samples, numbers and config, or of a failure, by which a run is seen to be current."""
    digest = hashlib.sha256(failure.encode("utf-8", "replace"))
    for name in ("generations.parquet", "metrics.json", "config.yaml", "timing.parquet") if stored else ():
        digest.update(name.encode())
        if stored and stored.has(name):
            digest.update(stored.path(name).read_bytes())
    return digest.hexdigest()[:16]


def varied_params(points: Sequence[SweepPoint]) -> dict[str, str]:
    """Return the params of a parent run: every key that varies in the sweep, with its values."""
    values: dict[str, list[str]] = {}
    for point in points:
        for key, value in point.varied.items():
            values.setdefault(mlflow_key(key), []).append(str(value))
    return {key: ", ".join(dict.fromkeys(texts))[:MAX_PARAM] for key, texts in values.items()}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _cell(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_CELL:
        return f"{value[:MAX_CELL]}… ({len(value)} characters in all)"
    return None if isinstance(value, float) and not math.isfinite(value) else value
