"""`tokens.html`: every generated token of a point, coloured by how sure the model was of it."""

from __future__ import annotations

import math
from typing import Any

from harness.report.page import page
from harness.report.palette import palette
from harness.report.token_data import PageData
from harness.results.catalog import HEADLINES
from harness.results.store import StoredPoint


def tokens_html(stored: StoredPoint, label: str, budget_mb: float = 8) -> str:
    """One self-contained page with the texts of a point and the probabilities behind each token.

    Tokens are coloured by raw or warped probability, entropy or rank; each shows its alternatives. The page
    asks for nothing outside of itself and treats every text as hostile.

    Args:
        stored: the point; `generations.parquet` must be there.
        label: what the page is titled.
        budget_mb: megabytes of texts and tokens; past it the first prompts keep their tokens, the others
            come as texts, and the page says so.

    Returns:
        The HTML text.
    """
    collected = PageData(budget_mb)
    prompts = collected.prompts(stored)
    data = {
        "label": label,
        "facts": _facts(stored, prompts),
        "note": collected.note(),
        "palette": palette(),
        "vocab": collected.vocabulary.strings,
        "prompts": prompts,
    }
    title = f"{label} · token probabilities"
    return page(title, "tokens.body.html", ("style.css", "tokens.css"), ("show.js", "tokens.js"), data)


def _facts(stored: StoredPoint, prompts: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Names and values under the title."""
    samples = [sample for prompt in prompts for sample in prompt["samples"]]
    facts: list[tuple[str, Any]] = [("prompts", len(prompts))]
    if len(samples) != len(prompts):
        facts.append(("texts", len(samples)))
    facts.append(("tokens", sum(sample["tokens"] or 0 for sample in samples)))
    metrics = stored.metrics().get("metrics", {}) if stored.has("metrics.json") else {}
    for metric in HEADLINES:
        value = metrics.get(metric.key)
        if metric.key != "text/output_tokens" and isinstance(value, int | float) and math.isfinite(value):
            facts.append((f"{metric.name} {metric.unit}".strip(), metric.tell(value)))
    return facts
