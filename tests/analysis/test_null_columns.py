"""Points of backends that report little beside one that reports everything: what they lack is absent.

`pytest tests/analysis/test_null_columns.py`
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from valued_points import sweep_of, sweep_point

from harness.analysis.compare_points import compare
from harness.analysis.drift_costs import precision_report
from harness.analysis.expectations import check_expectations
from harness.analysis.metrics.requested import RequestedMetrics
from harness.analysis.point_results import point_results
from harness.artifacts.compute_metrics import add_metrics
from harness.report.csv_files import comparison_csv, summary_csv
from harness.store.records import Sample, Steps
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep
from harness.store.tables import generations_table, tokens_table

PROMPTS = 5
WORDS = ["the", "old", "keeper", "counted", "seven", "grey", "gulls", "before", "the", "fog", "came", "in"]


def full_sample(prompt: int, seed: int) -> Sample:
    rng = np.random.default_rng([prompt, seed])
    n = int(rng.integers(4, 9))
    tokens = tuple(f" {word}" for word in rng.choice(WORDS, n))
    column = -rng.random(n).astype(np.float32)
    steps = Steps(
        token_id=np.arange(n),
        logprob=column,
        warped_logprob=column / 2,
        rank=np.ones(n, np.int32),
        entropy=-column,
        warped_entropy=-column / 2,
        kept=np.full(n, 7, np.int32),
        kept_mass=np.full(n, 0.5, np.float32),
        top_ids=np.zeros((n, 1), np.int64),
        top_logprobs=column[:, None],
        top_warped_logprobs=column[:, None] / 2,
        token=tokens,
        top_tokens=tuple((token,) for token in tokens),
    )
    return Sample(f"p{prompt}", 0, f"Prompt {prompt}", "".join(tokens), 4, n, "length", 0, steps)


def texts_only(sample: Sample) -> Sample:
    return replace(sample, steps=None, prompt_tokens=None, output_tokens=None, finish_reason=None)


def token_and_logprob(sample: Sample) -> Sample:
    assert sample.steps is not None
    return replace(sample, steps=Steps(token=sample.steps.token, logprob=sample.steps.logprob))


@pytest.fixture
def sweep(outputs: Path) -> Sweep:
    """One run that reports everything, one only texts, one only tokens and logprobs."""
    for seed, (name, reduced) in enumerate(
        {"full": lambda sample: sample, "texts": texts_only, "tokens": token_and_logprob}.items()
    ):
        stored = StoredPoint(outputs / "points" / f"m-set-{name}")
        samples = [reduced(full_sample(prompt, seed)) for prompt in range(PROMPTS)]
        stored.write_table("generations", generations_table(samples))
        stored.write_table("tokens", tokens_table(samples))
        stored.write_json("parts.json", {"facts": {"tokens": 1, "decode_seconds": 1.0}})
        add_metrics(stored, RequestedMetrics())
    expect = (
        {"output_ids": [0], "sample": 0},
        {"top": {"the": 0.5}, "sample": 0, "position": 0, "tolerance": 0.1},
        {"metric": "probability/mean_entropy", "min": 0.0},
    )
    return replace(sweep_of(outputs, *map(sweep_point, ("full", "texts", "tokens"))), expect=expect)


def test_metrics_are_absent_and_finite(sweep: Sweep) -> None:
    full, texts, tokens = point_results(sweep)
    assert {key for key in full.metrics if key not in texts.metrics} >= {
        "probability/mean_logprob", "probability/mean_entropy", "text/output_tokens", "text/cut_share",
    }  # fmt: skip
    assert {key for key in tokens.metrics if key.startswith("probability/")} == {
        "probability/mean_logprob", "probability/perplexity",
    }  # fmt: skip
    assert tokens.metrics["text/cut_share"] == 1.0
    assert texts.finishes == {None: PROMPTS}
    assert tokens.finishes == {"length": PROMPTS}
    for result in (full, texts, tokens):
        assert result.stored is not None
        text = result.stored.path("metrics.json").read_text()
        json.loads(text, parse_constant=pytest.fail)
        assert all(map(math.isfinite, result.metrics.values()))


@pytest.mark.parametrize("baseline", ["m/full", "m/texts", "m/tokens"])
def test_comparison_and_its_files(sweep: Sweep, baseline: str) -> None:
    results = point_results(sweep)
    comparison = compare(replace(sweep, compare={"baseline": baseline}), results)
    assert comparison.baseline == baseline
    for result in results:
        label = result.point.label
        assert comparison.cells[label].keys() == result.metrics.keys()
        for key, cell in comparison.cells[label].items():
            common = key in comparison.cells[baseline]
            if label != baseline and key.startswith("text/") and key != "text/self_bleu":
                assert (cell.difference is not None) == common, key
    logprob = comparison.cells["m/tokens"]["probability/mean_logprob"]
    assert logprob.low is not None, "its output tokens are known, which weight it"
    assert comparison.disagreement.keys() == {f"p{prompt}" for prompt in range(PROMPTS)}
    for written in (summary_csv(results), comparison_csv(comparison)):
        rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(written)))
        assert rows
        assert not [value for row in rows for value in row.values() if value in ("nan", "inf", "None")]


def test_expectations_and_drift(sweep: Sweep) -> None:
    checked = check_expectations(sweep)
    assert {one.passed for one in checked if one.label != "m/full" and "output ids" in one.text} == {False}
    (entropy,) = [one for one in checked if one.label == "m/tokens" and one.prompt_id is None]
    assert entropy.got.startswith("nothing, the point has no such metric")
    assert not precision_report(point_results(sweep))
