"""`tokens.html`: every generated token of a point, coloured by how likely the model found it."""

from __future__ import annotations

from dataclasses import replace

from harness.analysis.comparison import plain_comparison
from harness.analysis.point_results import point_result
from harness.report.page.chunks import CompressedChunks
from harness.report.page.palette import PALETTE
from harness.report.page.point_json import metric_json, point_json
from harness.report.page.prompts_section import prompts_section
from harness.report.page.settings import settings
from harness.report.page.shell import page
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import SweepPoint


def tokens_html(
    stored: StoredPoint, label: str, budget_mb: float = 8, point: SweepPoint | None = None
) -> str:
    """Return a self-contained page with the outputs of a point and the probabilities behind each token.

    Args:
        stored: the point; `generations.parquet` must exist.
        label: the page's title.
        budget_mb: megabytes of texts and tokens; past it the first prompts keep their tokens, the others
            come as texts, and the page says so.
        point: its record in a sweep, where it has one.
    """
    record = point or SweepPoint(label, stored.point_id, "", "", "", "", status="done")
    result = point_result(replace(record, label=label), stored)
    chunks = CompressedChunks(budget_mb)
    values = plain_comparison([result])
    prompts, notes = prompts_section([result], chunks, values.metrics, {})
    data = {
        "kind": "tokens",
        "label": label,
        "facts": [("prompts", prompts["promptCount"]), ("outputs", sum(result.finishes.values()))],
        "notes": notes,
        "palette": PALETTE,
        "metrics": [metric_json(metric) for metric in values.metrics],
        "points": [point_json(result, label, values.cells[label], None)],
        **prompts,
        "settings": chunks.put_json([settings(stored)]),
    }
    return page(f"{label} · token probabilities", data, chunks.text())
