"""Metrics on values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.results.latency import repetition
from harness.results.metrics import STEP_COLUMNS, distinct_n, mean_logprob, point_metrics, words
from harness.results.records import Sample, Steps


def make_sample(prompt: str, number: int, logprobs: list[float], reason: str = "length") -> Sample:
    n = len(logprobs)
    column = np.array(logprobs, dtype=np.float32)
    ones = np.ones(n, dtype=np.float32)
    steps = Steps(
        token_id=np.arange(n),
        logprob=column,
        warped_logprob=column / 2,
        rank=np.array([1 if value > -1 else 3 for value in logprobs], dtype=np.int32),
        entropy=ones * 2,
        warped_entropy=ones,
        kept=np.full(n, 7, dtype=np.int32),
        kept_mass=ones * 0.5,
        top_ids=np.zeros((n, 1), dtype=np.int64),
        top_logprobs=np.zeros((n, 1), dtype=np.float32),
        top_warped_logprobs=np.zeros((n, 1), dtype=np.float32),
    )
    return Sample(prompt, number, tuple(range(n)), reason, 0, steps)  # type: ignore[arg-type]


def test_words() -> None:
    assert words("The dog's hat, the HAT!") == ["the", "dog's", "hat", ",", "the", "hat", "!"]


def test_distinct_by_hand() -> None:
    text = "the cat saw the cat"  # 3 of 5 words; bigrams: the cat, cat saw, saw the, the cat
    assert distinct_n(text, 1) == pytest.approx(3 / 5)
    assert distinct_n(text, 2) == pytest.approx(3 / 4)
    assert distinct_n(text, 3) == pytest.approx(1)
    assert math.isnan(distinct_n("one", 2))
    assert math.isnan(distinct_n("", 1))


def test_point_by_hand() -> None:
    samples = [
        make_sample("a", 0, [-0.5, -1.5], "eos"),
        make_sample("a", 1, [-2.0]),
        make_sample("b", 0, [-0.5, -0.5, -0.5, -0.5]),
    ]
    outputs = ["x y x y", "", "x y"]
    generations = {
        "prompt_id": [sample.prompt_id for sample in samples],
        "finish_reason": [sample.finish_reason for sample in samples],
        "output_tokens": [len(sample.token_ids) for sample in samples],
        "mean_logprob": [mean_logprob(sample) for sample in samples],
        **{f"distinct_{n}": [distinct_n(output, n) for output in outputs] for n in (1, 2, 3)},
    }
    steps = ({name: getattr(sample.steps, name) for name in STEP_COLUMNS} for sample in samples)
    told = point_metrics(generations, steps, [repetition("a", 0, 1, 0.0, [0.1, 0.2])])
    metrics = told["metrics"]
    assert metrics["probability/mean_logprob"] == pytest.approx(-6 / 7)
    assert metrics["probability/mean_warped_logprob"] == pytest.approx(-3 / 7)
    assert metrics["probability/perplexity"] == pytest.approx(math.exp(6 / 7))
    assert metrics["probability/not_top_share"] == pytest.approx(2 / 7)
    assert metrics["probability/mean_entropy"] == 2
    assert metrics["probability/kept_mass"] == 0.5
    assert metrics["text/output_tokens"] == pytest.approx(7 / 3)
    assert metrics["text/eos_share"] == pytest.approx(1 / 3)
    assert metrics["text/cut_share"] == pytest.approx(2 / 3)
    assert metrics["text/distinct_2"] == pytest.approx((2 / 3 + 1) / 2)  # the empty text has no bigram
    assert metrics["latency/ttft_p50_ms"] == pytest.approx(100)
    assert told["per_prompt"] == {
        "prompt_id": ["a", "b"],
        "probability/mean_logprob": pytest.approx([-1.5, -0.5]),
        "text/output_tokens": [1.5, 4.0],
        "text/distinct_2": [pytest.approx(2 / 3), 1.0],
    }
    assert mean_logprob(samples[0]) == -1.0
