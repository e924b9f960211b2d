"""The description of a sweep's run in MLflow, in Markdown: the answer, the results, figures, the command.

The UI shows the beginning only, a dozen lines. So what answers the question comes first, without evidence;
the table is next, then costs, advice and the figures behind the answer.

Labels, names and evidence are hostile text: every character that Markdown or HTML reads is written as a
character reference, so that nothing in them is markup or a link.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.analysis.comparison import Comparison
from harness.analysis.metric_catalog import Metric
from harness.analysis.point_results import PointResult
from harness.analysis.sentence import Sentence
from harness.report.key_metrics import key_metrics
from harness.report.point_names import short_names
from harness.terminal import visible

TAG = "mlflow.note.content"
"""The tag that the UI shows as the description of a run."""

LONGEST = 7900
"""Characters of the description; MLflow takes 8000."""

MOST_METRICS = 8

BESIDE = frozenset({"More prompts", "Cost", "Speed", "Fastest", "Cheaper", "Outputs"})
"""Titles of the sentences that come after the table: not the answer, but what it costs or would take."""

GAP = "\N{NO-BREAK SPACE}" * 2


def description(points: Sequence[PointResult], comparison: Comparison, command: str = "") -> str:
    """Return the description of a sweep's run.

    Args:
        points: in the sweep's order; as many of them are in the table as there is room for.
        comparison: of these points.
        command: the command line; empty where it is not known.
    """
    names = dict(zip((p.point.label for p in points), short_names([p.point for p in points]), strict=True))
    top, below = _answer(comparison, names)
    bottom = f"\n\n{below}" if below else ""
    bottom += f"\n\nCommand: {escaped(command)}\n" if command else ""
    rest = "all runs are in compare.html (artifacts) and in the runs below this one"
    rows = _table(points, comparison, names)
    count = len(rows)
    while count > 2:
        left = len(rows) - count
        cut = f"\n\n{left} more; {rest}" if left else f"\n\n{rest}"
        text = top + "\n".join(rows[:count]) + cut + bottom
        if len(text) <= LONGEST:
            return text
        count -= 1
    return top[:LONGEST] if len(top) <= LONGEST else ""


def escaped(text: str) -> str:
    """Return a text as Markdown that shows just this text."""
    plain = " ".join(visible(text, "\n").split())
    marked = re.sub(r"""[&<>"'\\`*_{}\[\]()#+!|~:@$^=-]""", lambda found: f"&#{ord(found[0])};", plain)
    return re.sub(r"(?i)\bwww\.", "www&#46;", marked)


def _answer(comparison: Comparison, names: Mapping[str, str]) -> tuple[str, str]:
    """Return the sentences above the table, and the text below it: the others and the evidence."""
    sentences = comparison.answer.sentences if comparison.answer else ()
    first = [sentence for sentence in sentences if sentence.title not in BESIDE]
    above = [f"- **{escaped(one.title)}:** {escaped(one.text(names))}" for one in first]
    below = [
        f"- **{escaped(one.title)}:** {escaped(one.text(names))}{_in_parentheses(one)}"
        for one in sentences
        if one.title in BESIDE
    ]
    below += [f"- {escaped(one.title)}, figures: {escaped(one.evidence)}" for one in first if one.evidence]
    return "\n".join(above) + "\n\n" if above else "", "\n".join(below)


def _in_parentheses(sentence: Sentence) -> str:
    return f" ({escaped(sentence.evidence)})" if sentence.evidence else ""


def _table(points: Sequence[PointResult], comparison: Comparison, names: Mapping[str, str]) -> list[str]:
    """Return the lines of the table: the head, the line below it, a line a point.

    What is bold is what the page has bold: the best of a metric that has samples.
    """
    goal = comparison.answer.goal if comparison.answer else None
    metrics = key_metrics(points, goal)[:MOST_METRICS]
    heads = [escaped(f"{metric.name} ({metric.unit})" if metric.unit else metric.name) for metric in metrics]
    lines = [_line(["run", *heads]), f"| --- |{' ---: |' * len(metrics)}"]
    for p in points:
        label = p.point.label
        best = [(found := comparison.best.get(m.key)) is not None and found.label == label for m in metrics]
        values = [_value(m, p.metrics.get(m.key), bold=b) for m, b in zip(metrics, best, strict=True)]
        failed = " (failed)" if p.point.status == "failed" else ""
        lines.append(_line([escaped(names[label]) + failed, *values]))
    return lines


def _value(metric: Metric, value: float | None, *, bold: bool) -> str:
    text = metric.format(value)
    return f"**{text}**" if bold else text


def _line(cells: Sequence[str]) -> str:
    # The UI sets no space between columns.
    return f"| {f'{GAP} | '.join(cells)} |"
