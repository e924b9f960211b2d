"""What MLflow's evaluation views show of a sample: reference and metrics, as expectation and assessments.

They are ours, with the source `harness`: feedback that people give beside them is kept apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from harness.analysis.metric_catalog import Metric, metric_of

if TYPE_CHECKING:
    from mlflow.entities import Assessment

SOURCE = "harness"
EXPECTED = "expected_response"
"""MLflow's name for what an output is compared with."""

SCORES = ("reference/chrf", "text/repeated_4")
"""Metrics that are numbers."""
VERDICTS = {"exact_match": "exact_match", "no_loop": "looped"}
"""What a sample passes or not, and the column that says so; MLflow shows true in green and false in red."""


def is_ours(assessment: Assessment) -> bool:
    """Return whether an assessment was computed by us, not given by anybody."""
    return assessment.source.source_id == SOURCE and assessment.source.source_type == "CODE"


def assessments_of(
    row: Mapping[str, Any], identity: bytes, custom: Mapping[str, Metric]
) -> Iterator[Assessment]:
    """Yield the assessments of a sample.

    Args:
        row: of generations.parquet, with the columns of its metrics.
        identity: of its trace; assessments that are written again replace those that are there.
        custom: the user's own metrics by key.
    """
    from mlflow.entities import AssessmentSource, Expectation, Feedback

    source = AssessmentSource("CODE", SOURCE)
    found: list[Assessment] = []
    reference = row.get("reference")
    if reference is not None:
        found.append(Expectation(EXPECTED, reference, source=source))
    for key in (*SCORES, *custom):
        metric = metric_of(key, custom)
        if _is_number(value := row.get(metric.per_sample or "")):
            found.append(
                Feedback(metric.per_sample or key, round(value, max(2, metric.decimals)), source=source)
            )
    for name, column in VERDICTS.items():
        if _is_number(value := row.get(column)):
            found.append(Feedback(name, bool(value) == (name == column), source=source))
    for one in found:
        one.assessment_id = f"a-{identity[:12].hex()}-{one.name}"[:50]
        yield one


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
