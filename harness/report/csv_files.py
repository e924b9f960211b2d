"""For spreadsheets and notebooks: `summary.csv`, a row a point; `comparison.csv`, a row a metric of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from harness.analysis.comparison import Comparison
from harness.analysis.metric_catalog import in_order
from harness.analysis.point_results import PointResult

FACTS = ("label", "point_id", "model", "quantization", "prompts", "decoding", "status", "error")


def summary_csv(points: Sequence[PointResult]) -> str:
    """CSV with a header: the points' facts, what varied between them, and every metric of any of them.

    A column is called as its key is (`generation.seed`, `latency/ttft_p50_ms`); what a point lacks is empty.
    """
    varied = [key for key in dict.fromkeys(k for p in points for k in p.point.varied) if key not in FACTS]
    metrics = in_order(key for p in points for key in p.metrics)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*FACTS, *varied, *metrics])
    for p in points:
        facts = [getattr(p.point, name) for name in FACTS]
        writer.writerow(
            [*facts, *(_cell(p.point.varied.get(key)) for key in varied), *map(p.metrics.get, metrics)]
        )
    return out.getvalue()


HELD = (
    "label",
    "metric",
    "value",
    "low",
    "high",
    "baseline",
    "difference",
    "difference low",
    "difference high",
    "p",
    "word",
    "verdict",
    "below noise",
    "prompts",
)


def comparison_csv(comparison: Comparison) -> str:
    """CSV with a header: each metric of each point, and how it differs from the baseline.

    A row a point and metric, so that a spreadsheet can filter and pivot: five columns a metric beside each
    other would be a hundred. `low` and `high` bound 95% intervals; `p` is corrected for all the rows.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HELD)
    for label, cells in comparison.cells.items():
        for metric in comparison.metrics:
            cell = cells.get(metric.key)
            if cell is None:
                continue
            row: list[Any] = [label, metric.key, cell.value, cell.low, cell.high]
            d = cell.difference
            if d is not None:
                row += [comparison.baseline, d.mean, d.low, d.high, d.p, d.word, d.verdict]
                row += ["yes" if d.within_noise else "no", d.prompts]
            writer.writerow(row + [None] * (len(HELD) - len(row)))
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A value in one cell: lists and maps as JSON."""
    return (
        json.dumps(value, ensure_ascii=False, default=str)
        if isinstance(value, list | tuple | dict)
        else value
    )
