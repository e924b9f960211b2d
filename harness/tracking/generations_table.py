"""generations.json: a point's outputs as the table that MLflow puts side by side with those of other runs."""

from __future__ import annotations

import json
import math
from typing import Any

from harness.store.stored_point import StoredPoint
from harness.tracking.facts import asked

MAX_CELL = 20_000
"""Longest text of a cell, in characters."""
TABLE_MB = 2.0
TABLE_ROWS = 1000
"""Limits of the table: to compare runs, the UI reads ten of them whole and lays out every row."""
TABLE_TAG = json.dumps([{"path": "generations.json", "type": "table"}])
"""Value of `mlflow.loggedArtifacts`, by which the UI recognises an artifact as a table."""

COLUMNS = ("prompt", "output", "finish_reason", "output_tokens", "mean_logprob", "sample")
SCORES = ("reference", "chrf", "exact_match", "rouge_l")
"""Columns of outputs that have references."""


def generations_json(
    stored: StoredPoint, budget_mb: float = TABLE_MB, max_rows: int = TABLE_ROWS
) -> tuple[str, str]:
    """Return the first rows of generations.parquet as a table, and a note of how many are left out, if any.

    The UI lines up runs by the table's first column, whose values must be unique. It is the prompt's id, of
    a further sample `prompt_id #1`; so one output of a deterministic strategy is beside the first of several.
    The points of a sweep show the same prompts: rows are left out from the end.
    """
    samples = stored.columns("generations", ["sample"])["sample"]
    columns, bytes_left, rows = _columns(stored), budget_mb * 1e6, list[str]()
    names: set[str] = set()
    for sample in (sample for batch in stored.row_batches("generations", 100) for sample in batch):
        name = row_name(sample["prompt_id"], sample["sample"])
        while name in names:  # ids that look like a sample of another prompt
            name += " #0"
        names.add(name)
        shown = sample | {"prompt": asked(sample)}
        row = json.dumps([name, *(_cell(shown.get(column)) for column in columns)])
        bytes_left -= len(row)
        if rows and (bytes_left < 0 or len(rows) == max_rows):
            break
        rows.append(row)
    head, note = json.dumps(["prompt_id", *columns]), ""
    if len(rows) < len(samples):
        counts = f"{len(rows)} of {len(samples)}"
        note = f"the first {counts} are in generations.json, all in generations.parquet"
    return f'{{"columns": {head}, "data": [{", ".join(rows)}]}}', note


def row_name(prompt_id: str, sample: int) -> str:
    """Return what a sample's row is called: its prompt, and its number from the second sample on."""
    return f"{prompt_id} #{sample}" if sample else prompt_id


def _columns(stored: StoredPoint) -> tuple[str, ...]:
    """Return the columns to show: those of references where the first rows have any."""
    first = next(iter(stored.row_batches("generations", 100)), [])
    scored = any(row.get("reference") is not None for row in first)
    return (*COLUMNS[:2], *SCORES, *COLUMNS[2:]) if scored else COLUMNS


def _cell(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_CELL:
        return f"{value[:MAX_CELL]}… ({len(value)} characters in all)"
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
