"""What MLflow is told of a point: params, tags, metrics and the table of texts, as plain values."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.expectations import CheckedExpectation, check_summary, missed
from harness.analysis.metric_catalog import metric_of
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint

LONGEST_PARAM = 6000
LONGEST_TAG = 5000
LONGEST_KEY = 250
EXPECTATIONS = "expectations"
"""The tag that tells what became of `expect`."""
LONGEST_CELL = 20_000
TABLE_MB = 2.0
TABLE_ROWS = 1000
"""Of generations.json: the UI reads ten of them whole, and lays out every row, to put runs side by side."""
TABLE_TAG = json.dumps([{"path": "generations.json", "type": "table"}])
"""Value of `mlflow.loggedArtifacts`: how the UI knows that an artifact is a table."""


def key_of(name: str) -> str:
    """A legal MLflow key: other characters than letters, digits and `_-.:/ ` become `_`."""
    return re.sub(r"[^\w\-.:/ ]", "_", name, flags=re.ASCII)[:LONGEST_KEY].strip("./ ") or "_"


def flatten(config: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and texts of a nested config; what is null is left out, lists are JSON."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif config is not None:
        if isinstance(config, bool | list | tuple):
            config = json.dumps(config, ensure_ascii=False, default=str)
        yield prefix, str(config)


def params_of(stored: StoredPoint) -> dict[str, str]:
    """The requested config, flattened; below `effective.` what decoding made of it."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    config = yaml.load(stored.config_text(), Loader=loader) if stored.has("config.yaml") else {}
    config = config if isinstance(config, Mapping) else {}
    params = dict(flatten(config.get("requested") or {}))
    params.update(flatten(config.get("effective") or {}, "effective"))
    return {key_of(key): value[:LONGEST_PARAM] for key, value in params.items()}


def tags_of(sweep: Sweep, point: SweepPoint) -> dict[str, str]:
    """What the runs of points are found and sorted by."""
    tags = {
        "sweep_id": sweep.sweep_id,
        "sweep": sweep.name,
        "kind": "generation",
        "point_id": point.point_id,
        "label": point.label,
        "model": point.model,
        "quantization": point.quantization,
        "prompts": point.prompts,
        "decoding": point.decoding,
        "status": point.status,
    }
    for key, value in point.varied.items():
        tags.setdefault(key_of(key), str(value))
    if point.warnings:
        tags["warnings"] = "\n".join(point.warnings)
    if point.error:
        tags["error"] = point.error
    return {key: value[:LONGEST_TAG] for key, value in tags.items()}


def metrics_of(stored: StoredPoint) -> dict[str, float]:
    """The metrics that MLflow is told of: a chart each on one page, so the catalogue says which ones.

    Only numbers: MLflow would keep infinities as 1.8e308 and NaN as holes in charts.
    """
    known = stored.metrics().get("metrics", {}) if stored.has("metrics.json") else {}
    return {
        key_of(key): float(value)
        for key, value in known.items()
        if metric_of(key).visibility != "tables" and _is_number(value)
    }


def per_prompt_of(stored: StoredPoint) -> list[tuple[str, float, int]]:
    """`prompt/<metric>` of the headlines, value and step; the step is the place of the prompt in its set.

    Of the first TABLE_ROWS prompts: metrics.json has them all.
    """
    known = stored.metrics().get("per_prompt", {}) if stored.has("metrics.json") else {}
    return [
        (key_of(f"prompt/{key.rpartition('/')[2]}"), float(value), step)
        for key, values in known.items()
        if metric_of(key).visibility == "headline"
        for step, value in enumerate(values[:TABLE_ROWS])
        if _is_number(value)
    ]


def expectations_tag(checked: Sequence[CheckedExpectation], with_labels: bool = False) -> str:
    """`3 passed`, or `1 of 3 missed: ...` with what was missed; empty when nothing was expected."""
    if not checked:
        return ""
    wrong = [f"{one.label}: {one.line}" if with_labels else one.line for one in missed(checked)]
    return ": ".join([check_summary(checked), *(["; ".join(wrong)] if wrong else [])])[:LONGEST_TAG]


COLUMNS = ("prompt", "output", "finish_reason", "output_tokens", "mean_logprob", "sample")


@dataclass(frozen=True)
class TextTable:
    """One of MLflow's tables.

    Attributes:
        json: the artifact.
        shown: rows in it, the point's first.
        texts: of the point.
    """

    json: str
    shown: int
    texts: int

    @property
    def note(self) -> str:
        """How many of how many are shown; empty when all are."""
        if self.shown == self.texts:
            return ""
        return f"the first {self.shown} of {self.texts} are in generations.json, all in generations.parquet"


def generations_json(
    stored: StoredPoint, budget_mb: float = TABLE_MB, most_rows: int = TABLE_ROWS
) -> TextTable:
    """The first of generations.parquet as a table, which the UI puts side by side by the first column.

    That column must tell the rows apart, so with several samples it is `prompt_id #sample`. The points of a
    sweep show the same prompts: what is left out is the end of the prompt set, whatever the point.
    """
    samples = stored.columns("generations", ["sample"])["sample"]
    several = any(samples)
    left, told = budget_mb * 1e6, list[str]()
    for row in (row for rows in stored.row_batches("generations", 100) for row in rows):
        name = f"{row['prompt_id']} #{row['sample']}" if several else row["prompt_id"]
        text = json.dumps([name, *(_cell(row.get(column)) for column in COLUMNS)])
        left -= len(text)
        if told and (left < 0 or len(told) == most_rows):
            break
        told.append(text)
    head = json.dumps(["prompt_id", *COLUMNS])
    return TextTable(f'{{"columns": {head}, "data": [{", ".join(told)}]}}', len(told), len(samples))


def digest(stored: StoredPoint) -> str:
    """Tells whether a point in MLflow is the one in the store: a hash of its texts, numbers and config."""
    known = hashlib.sha256()
    for name in ("generations.parquet", "metrics.json", "config.yaml", "timing.parquet"):
        known.update(name.encode())
        if stored.has(name):
            known.update(stored.path(name).read_bytes())
    return known.hexdigest()[:16]


def text_digest(text: str) -> str:
    """The same of a text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def varied_params(points: Sequence[SweepPoint]) -> dict[str, str]:
    """Of a parent run: every key that varies in the sweep, with its values."""
    values: dict[str, list[str]] = {}
    for point in points:
        for key, value in point.varied.items():
            values.setdefault(key_of(key), []).append(str(value))
    return {key: ", ".join(dict.fromkeys(told))[:LONGEST_PARAM] for key, told in values.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _cell(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_CELL:
        return f"{value[:LONGEST_CELL]}… ({len(value)} characters in all)"
    return None if isinstance(value, float) and not math.isfinite(value) else value
