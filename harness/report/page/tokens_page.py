"""`tokens.html`: every generated token of a point, coloured by how sure the model was of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.analysis.point_results import point_result
from harness.report.page.compare_page import plain_comparison, told_metric, told_point
from harness.report.page.palette import palette
from harness.report.page.pieces import Pieces
from harness.report.page.prompts_section import prompt_data
from harness.report.page.settings import settings
from harness.report.page.shell import page
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import SweepPoint


def tokens_html(
    stored: StoredPoint, label: str, budget_mb: float = 8, point: SweepPoint | None = None
) -> str:
    """One self-contained page with the texts of a point and the probabilities behind each token.

    It is the comparison's machinery for one point, without its overview. It asks for nothing outside of
    itself and treats every text as hostile.

    Args:
        stored: the point; `generations.parquet` must be there.
        label: what the page is titled.
        budget_mb: megabytes of texts and tokens; past it the first prompts keep their tokens, the others
            come as texts, and the page says so.
        point: its place in a sweep, where it has one.
    """
    place = point or SweepPoint(label, stored.point_id, "", "", "", "", status="done")
    told = point_result(replace(place, label=label), stored)
    pieces = Pieces(budget_mb)
    against = plain_comparison([told])
    prompts = prompt_data([told], pieces, metrics=against.metrics)
    facts: list[tuple[str, Any]] = [("prompts", prompts.count), ("texts", sum(told.finishes.values()))]
    data = {
        "kind": "tokens",
        "label": label,
        "facts": facts,
        "notes": list(prompts.notes),
        "rough": False,
        "palette": palette(),
        "baseline": None,
        "metrics": [told_metric(metric) for metric in against.metrics],
        "points": [told_point(told, label, against.cells[label], None)],
        "findings": [],
        "effects": [],
        "front": None,
        "noise": {},
        "selfBleu": {},
        "expectations": [],
        "feedback": [],
        "prompts": prompts.index,
        "promptCount": prompts.count,
        "vocabulary": prompts.vocabulary,
        "settings": pieces.put_json([settings(stored)]),
    }
    return page(f"{label} · token probabilities", data, pieces.text())
