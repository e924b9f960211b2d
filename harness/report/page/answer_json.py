"""The answer of a sweep as JSON of the page: its sentences, the swept keys, trends and the best points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.answer import Answer
from harness.analysis.comparison import Comparison
from harness.analysis.sentence import Link, Sentence
from harness.analysis.swept import BestSet, SweptKey, Trend
from harness.config.labels import short as short_key
from harness.report.page.shell import short

Indices = Mapping[str, int]
"""Index of a point in the page, by label."""

REFERENCE_METRICS = ("reference/answer_match", "reference/chrf", "reference/exact_match")
"""Shown first where they were measured, after the metric that the question is about."""


def first_metrics(compared: Comparison) -> list[str]:
    """Return the keys of the metrics that come first in the page, the goal of the sweep foremost."""
    goal = compared.answer.goal if compared.answer else None
    present = {metric.key for metric in compared.metrics}
    wanted = dict.fromkeys(([goal] if goal else []) + list(REFERENCE_METRICS))
    return [key for key in wanted if key in present]


def answer_json(answer: Answer | None, indices: Indices) -> dict[str, Any] | None:
    """Return an answer as the page has it; None without one."""
    if answer is None:
        return None
    return {
        "goal": answer.goal,
        "best": None if answer.best is None else indices.get(answer.best),
        "ties": [indices[label] for label in answer.ties if label in indices],
        "sentences": [_sentence_json(sentence, indices) for sentence in answer.sentences],
    }


def _sentence_json(sentence: Sentence, indices: Indices) -> dict[str, Any]:
    spans = [span if isinstance(span, str) else _link_json(span, indices) for span in sentence.spans]
    return {"title": sentence.title, "spans": spans, "evidence": sentence.evidence, "tone": sentence.tone}


def _link_json(link: Link, indices: Indices) -> str | dict[str, Any]:
    """Return {"point": index} or {"prompt": id}; the name as text where it is no point of this page."""
    if link.kind == "prompt":
        return {"prompt": link.name}
    return {"point": indices[link.name]} if link.name in indices else link.name


def swept_json(key: SweptKey, labels: list[str]) -> dict[str, Any]:
    """Return a swept key: by point the index of its value among `values`, and of its group among `groups`."""
    values = list(key.values)
    groups = list(dict.fromkeys(key.group_of.values()))
    return {
        "key": key.key,
        "name": short_key(key.key),
        "values": [short(value, 8) for value in values],
        "of": [values.index(key.value_of[label]) if label in key.value_of else None for label in labels],
        "groups": groups,
        "group": [groups.index(key.group_of[label]) if label in key.group_of else None for label in labels],
    }


def trend_json(trend: Trend) -> dict[str, Any]:
    """Return a trend; the numbers of its values are those of the swept key."""
    return {
        "metric": trend.metric,
        "key": trend.key,
        "slope": [short(trend.slope), short(trend.low), short(trend.high), short(trend.p, 2)],
        "curvature_p": short(trend.curvature_p, 2),
        "shape": trend.shape,
        "best": short(trend.best, 8),
        "plateau": [short(value, 8) for value in trend.plateau],
        "prompts": trend.prompts,
    }


def best_json(best: Mapping[str, BestSet], indices: Indices) -> dict[str, Any]:
    """Return, by metric, [index of the best point, those not significantly worse, those that are]."""
    return {
        key: [
            indices[found.label],
            *([indices[label] for label in some if label in indices] for some in (found.ties, found.worse)),
        ]
        for key, found in best.items()
        if found.label in indices
    }


def answer_data(compared: Comparison, labels: list[str]) -> dict[str, Any]:
    """Return the entries of the page's data that are about the answer, for its points in this order."""
    indices = {label: index for index, label in enumerate(labels)}
    return {
        "answer": answer_json(compared.answer, indices),
        "tested": compared.tested,
        "swept": [swept_json(key, labels) for key in compared.swept if len(key.values) > 1],
        "trends": [trend_json(trend) for trend in compared.trends],
        "interactions": [
            {
                "metric": each.metric,
                "keys": list(each.keys),
                "slope": [short(each.slope), short(each.low), short(each.high), short(each.p, 2)],
            }
            for each in compared.interactions
        ],
        "best": best_json(compared.best, indices),
    }
