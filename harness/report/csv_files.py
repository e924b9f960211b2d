"""The CSV files of a sweep: `summary.csv`, a row per point; `comparison.csv`, a row per point and metric."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from harness.analysis.comparison import Comparison
from harness.analysis.metric_catalog import in_order
from harness.analysis.point_results import PointResult

FACTS = ("label", "point_id", "model", "quantization", "prompts", "decoding", "status", "error")

COMPARISON_COLUMNS = (
    "label", "metric", "value", "low", "high", "baseline", "difference", "difference low", "difference high",
    "p", "word", "verdict", "below noise", "prompts",
)  # fmt: skip


def summary_csv(points: Sequence[PointResult]) -> str:
    """Return CSV with a header, of the table that `summary_rows` returns."""
    header, rows = summary_rows(points)
    return csv_text(header, ([_cell(value) for value in row] for row in rows))


def summary_rows(points: Sequence[PointResult]) -> tuple[list[str], list[list[Any]]]:
    """Return header and rows: the points' facts, what varies among them, and every metric of any of them.

    A column has the name of its key (`generation.seed`, `latency/ttft_p50_ms`); what a point lacks is empty.
    Rows of chosen samples have `selected_from`, the number of samples per prompt that they cost.
    """
    varied = [key for key in dict.fromkeys(k for p in points for k in p.point.varied) if key not in FACTS]
    metrics = in_order(key for p in points for key in p.metrics)
    chosen = [] if not any(p.selected_from for p in points) else ["selected_from"]
    rows = [
        [getattr(p.point, name) for name in FACTS]
        + [p.point.varied.get(key) for key in varied]
        + [p.selected_from or None for _ in chosen]
        + [p.metrics.get(key) for key in metrics]
        for p in points
    ]
    return [*FACTS, *varied, *chosen, *metrics], rows


def comparison_csv(comparison: Comparison) -> str:
    """Return CSV with a header, of the table that `comparison_rows` returns."""
    return csv_text(COMPARISON_COLUMNS, comparison_rows(comparison))


def comparison_rows(comparison: Comparison) -> list[list[Any]]:
    """Return the rows of COMPARISON_COLUMNS: each metric of each point, and its difference from the baseline.

    There is a row per point and metric, which a spreadsheet can filter and pivot. `low` and `high` bound 95%
    confidence intervals; those of the differences, and `p`, are simultaneous over all points of a metric.
    """
    rows = []
    for label, cells in comparison.cells.items():
        for key in (metric.key for metric in comparison.metrics if metric.key in cells):
            cell, d = cells[key], cells[key].difference
            row: list[Any] = [label, key, cell.value, cell.low, cell.high]
            if d is not None:
                row += [comparison.baseline, d.mean, d.low, d.high, d.p, d.word, d.verdict]
                row += ["yes" if d.within_noise else "no", d.prompts]
            rows.append(row + [None] * (len(COMPARISON_COLUMNS) - len(row)))
    return rows


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return CSV with a header; None is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    """Return a value for one cell: lists and maps as JSON."""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value
