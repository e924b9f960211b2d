"""`compare.html`: the points of a sweep side by side, prompt by prompt, below a table of their metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.page import page
from harness.report.palette import palette
from harness.report.points import Reported
from harness.report.token_data import PageData, short
from harness.results.catalog import HEADLINES
from harness.results.sweeps import Sweep


def compare_html(
    sweep: Sweep, points: Sequence[Reported], pages: Mapping[str, str] | None = None, budget_mb: float = 8
) -> str:
    """One self-contained page.

    Args:
        sweep: whose page it is.
        points: its points as reported.
        pages: address of a point's own page by label, relative to this one; linked when opened from disk.
        budget_mb: megabytes of texts and tokens, shared evenly by the points.
    """
    collected = PageData(budget_mb)
    told = []
    kept = sum(1 for p in points if p.stored)
    for p in points:
        # What earlier points left over goes to the later ones.
        share = collected.left / max(1, kept)
        kept -= 1 if p.stored else 0
        told.append(
            {
                "label": p.point.label,
                "status": p.point.status,
                "error": p.point.error,
                "warnings": list(p.point.warnings),
                "page": (pages or {}).get(p.point.label),
                "metrics": {key: short(value) for key, value in p.metrics.items()},
                "intervals": {key: [short(low), short(high)] for key, (low, high) in p.intervals.items()},
                "prompts": collected.prompts(p.stored, share) if p.stored else [],
            }
        )
    data: dict[str, Any] = {
        "label": sweep.name,
        "facts": _facts(sweep, points),
        "note": collected.note(),
        "palette": palette(),
        "vocab": collected.vocabulary.strings,
        "columns": [[c.key, c.name, c.unit, c.decimals] for c in HEADLINES],
        "points": told,
    }
    return page(
        f"{sweep.name} · comparison",
        "compare.body.html",
        ("style.css", "compare.css"),
        ("show.js", "compare.js"),
        data,
    )


def _facts(sweep: Sweep, points: Sequence[Reported]) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [("sweep", sweep.sweep_id), ("points", len(points))]
    failed = sum(p.point.status == "failed" for p in points)
    if failed:
        facts.append(("failed", failed))
    prompts = {prompt_id for p in points for prompt_id in p.prompt_ids}
    facts.append(("prompts", len(prompts)))
    return facts
