"""`summary.csv`: a row a point, for spreadsheets and notebooks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from harness.report.points import Reported
from harness.results.catalog import in_order

FACTS = ("label", "point_id", "model", "quantization", "prompts", "decoding", "status", "error")


def summary_csv(points: Sequence[Reported]) -> str:
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


def _cell(value: Any) -> Any:
    """A value in one cell: lists and maps as JSON."""
    return (
        json.dumps(value, ensure_ascii=False, default=str)
        if isinstance(value, list | tuple | dict)
        else value
    )
