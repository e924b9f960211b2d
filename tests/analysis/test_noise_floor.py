"""The noise floor's arithmetic: by hand, and by measuring simulated machines twice."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.noise_floor import noise_line, rounding, timing_noise
from harness.store.records import Repetition

ITL, TTFT, TOTAL = "latency/itl_p50_ms", "latency/ttft_p50_ms", "latency/total_p50_ms"


def output(*logprobs: float, tokens: tuple[int, ...] = (), **columns: list[float]) -> dict[str, np.ndarray]:
    ids = tokens or tuple(range(len(logprobs)))
    values = {"logprob": np.array(logprobs, np.float32), "token_id": np.array(ids)}
    return values | {name: np.array(column) for name, column in columns.items()}


def repetition(prompt: str, repeat: int, ttft: float | None, decode: float, *itl: float) -> Repetition:
    return Repetition(prompt, repeat, 1, ttft, decode, 4, itl)


def test_changes_of_logprobs_and_of_the_metrics_made_of_them() -> None:
    recorded = [output(-1.0, -2.0, rank=[1, 3]), output(-0.5, rank=[1])]
    again = [output(-1.5, -2.25, rank=[2, 3]), output(-0.5, rank=[1])]
    found, metrics = rounding(recorded, again, [np.array([0, 7]), np.array([0])])
    assert (found.outputs, found.tokens, found.changed) == (2, 3, 1)
    assert found.largest == 0.5
    assert found.mean == pytest.approx(0.25)
    # Means over all tokens: -3.5/3 before, -4.25/3 again; one token of three is no longer the likeliest.
    assert metrics["probability/mean_logprob"] == pytest.approx(0.25)
    assert metrics["probability/perplexity"] == pytest.approx(math.exp(4.25 / 3) - math.exp(3.5 / 3))
    assert metrics["probability/not_top_share"] == pytest.approx(1 / 3)
    assert set(metrics) == {f"probability/{name}" for name in ("mean_logprob", "perplexity", "not_top_share")}


def test_only_tokens_known_both_times_count_for_a_metric() -> None:
    recorded = [output(-1.0, -2.0, warped_logprob=[-1.0, -3.0])]
    again = [output(-1.0, -2.0, warped_logprob=[-1.5, math.nan])]
    found, metrics = rounding(recorded, again, [None])
    assert found.changed is None, "not every strategy can say it"
    assert metrics["probability/mean_warped_logprob"] == pytest.approx(0.5)
    assert metrics["probability/mean_logprob"] == 0


def test_impossible_tokens_have_not_changed_and_are_no_metric() -> None:
    found, metrics = rounding([output(-math.inf, -1.0)], [output(-math.inf, -1.5)], [None])
    assert (found.largest, found.mean) == (0.5, 0.25)
    assert metrics == {}


def test_timing_noise_by_hand() -> None:
    runs = [
        repetition("a", 0, 10.0, 30.0, 1.0, 1.0, 3.0),
        repetition("a", 1, 14.0, 32.0, 2.0, 2.0, 2.0),
        repetition("b", 0, 20.0, 30.0, 4.0, 4.0, 4.0),
        repetition("b", 1, 22.0, 26.0, 4.0, 4.0, 4.0),
    ]
    found = timing_noise(runs)
    # TTFT: variances 8 and 2, pooled 5; a mean over 2 prompts x 2 repetitions has 5/4, two of them 5/2.
    assert found[TTFT] == pytest.approx(math.sqrt(2.5))
    assert found[ITL] == pytest.approx(math.sqrt(2 * 0.25 / 4))
    # Totals: 40 and 46, 50 and 48.
    assert found[TOTAL] == pytest.approx(math.sqrt(2 * (18 + 2) / 2 / 4))


def test_what_was_not_repeated_or_not_streamed_has_no_timing_noise() -> None:
    assert timing_noise([]) == {}
    assert timing_noise([repetition("a", 0, 10.0, 30.0, 1.0), repetition("b", 0, 11.0, 30.0, 1.0)]) == {}
    beams = [repetition("a", repeat, None, 30.0 + repeat) for repeat in range(2)]
    assert set(timing_noise(beams)) == {TOTAL}


@pytest.mark.parametrize(("prompts", "repeats"), [(2, 2), (4, 5)])
def test_a_machine_measured_twice_moves_as_far_as_the_first_measurement_says(
    prompts: int, repeats: int
) -> None:
    generator = np.random.default_rng(0)
    level = generator.normal(50, 10, (prompts, 1))  # prompts differ, which is no noise

    def measured() -> np.ndarray:
        return level + generator.gamma(2.0, 1.5, (prompts, repeats))

    said, moved = [], []
    for _ in range(1500):
        first, second = measured(), measured()
        runs = [
            repetition(str(prompt), repeat, first[prompt, repeat], 1.0, 1.0)
            for prompt in range(prompts)
            for repeat in range(repeats)
        ]
        said.append(timing_noise(runs)[TTFT])
        moved.append(first.mean() - second.mean())
    assert np.sqrt(np.mean(np.square(said))) == pytest.approx(np.sqrt(np.mean(np.square(moved))), rel=0.06)


def test_one_line_where_it_is_not_zero() -> None:
    exact = {"rounding": {"outputs": 1, "tokens": 48, "largest": 2e-6, "mean": 1e-7, "changed": 0}}
    assert noise_line([]) is None
    assert noise_line([{"metrics": {}, **exact}]) is None, "0.000 is not worth a line"
    half = {"rounding": {"outputs": 1, "tokens": 52, "largest": 0.0312, "mean": 0.0041, "changed": 2}}
    times = {"metrics": {TTFT: 1.26, ITL: 0.004, TOTAL: 9.0, "text/distinct_2": 0.5}}
    assert noise_line([{"metrics": {}, **half}, {**times, **exact}]) == (
        "Run-to-run noise: in another batch logprobs change by 0.004 nats on average, 0.031 at most, and 2 "
        "of 100 tokens would be chosen otherwise; measured again, latencies move by about TTFT 1.3 ms."
    )
    flips = {"rounding": {"tokens": 10, "largest": 1e-4, "mean": 1e-5, "changed": 1}}
    assert noise_line([flips]) == (
        "Run-to-run noise: in another batch 1 of 10 tokens would be chosen otherwise."
    )
    unsaid = {"rounding": {"tokens": 10, "largest": 0.01, "mean": 0.001, "changed": None}}
    assert noise_line([unsaid]) == (
        "Run-to-run noise: in another batch logprobs change by 0.001 nats on average, 0.010 at most."
    )


def test_the_files_of_older_versions_and_damaged_ones_are_read() -> None:
    old = {"metrics": {"probability/mean_logprob": 1e-7, "text/distinct_2": 0.0, ITL: -0.25}, "prompts": 2}
    assert noise_line([old]) == "Run-to-run noise: measured again, latencies move by about ITL 0.25 ms."
    hostile = [None, 3, [1], {"metrics": [1], "rounding": "<script>"}, {"rounding": {"largest": "x"}}]
    assert noise_line(hostile) is None
