"""Points compared, on samples whose differences can be worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_points import make_sweep
from scipy import stats
from valued_points import rows, store, sweep_of, sweep_point, timed

from harness.analysis.compare_points import compare
from harness.analysis.comparison import Comparison
from harness.analysis.point_results import point_results
from harness.analysis.statistics.bootstrap import mean_intervals
from harness.store.sweeps import Sweep

LOGPROB, TOKENS, DISTINCT = "probability/mean_logprob", "text/output_tokens", "text/distinct_2"
REPEAT = "text/longest_repeat"


def compared(sweep: Sweep) -> Comparison:
    return compare(sweep, point_results(sweep))


def test_differences_are_paired_by_prompt_and_sample(outputs: Path) -> None:
    """Two prompts, two samples, in another order; (1 + 3) / 2 = 2 and (0 + 8) / 2 = 4: mean 3."""

    def samples(*values: tuple[str, int, float]) -> list[dict[str, object]]:
        return [{"prompt_id": p, "sample": s, "mean_logprob": v} for p, s, v in values]

    store(outputs, "a", samples(("x", 0, 1), ("x", 1, 2), ("y", 0, 3), ("y", 1, 4)), {LOGPROB: 2.5})
    store(outputs, "b", samples(("y", 1, 12), ("x", 1, 5), ("x", 0, 2), ("y", 0, 3)), {LOGPROB: 5.5})
    points = replace(sweep_point("greedy"), point_id="a"), replace(sweep_point("top_p"), point_id="b")
    comparison = compared(sweep_of(outputs, *points))
    assert comparison.baseline == "m/greedy"
    assert comparison.approximate
    assert comparison.cells["m/greedy"][LOGPROB].difference is None
    difference = comparison.cells["m/top_p"][LOGPROB].difference
    assert difference is not None
    assert difference.mean == 3
    assert difference.prompts == 2
    assert difference.low == pytest.approx(3 - 12.7062, abs=1e-3)  # 2 and 4: standard error 1, Student's t(1)
    assert difference.word == "no significant difference"


def test_words_verdicts_and_the_correction_over_the_points_of_a_metric(outputs: Path) -> None:
    rng = np.random.default_rng(0)
    n = 40
    noise, base = rng.normal(size=n), rng.normal(size=n) * 5
    values = {"greedy": base, "less": base - 1 + 0.1 * noise, "same": base + 0.9 * noise - 0.1}
    for name, column in values.items():
        mean = {LOGPROB: column.mean(), REPEAT: column.mean()}
        store(outputs, f"m-set-{name}", rows(mean_logprob=column, longest_repeat=column), mean)
    comparison = compared(sweep_of(outputs, *map(sweep_point, values)))
    assert not comparison.approximate
    less, same = comparison.cells["m/less"], comparison.cells["m/same"]
    raw = mean_intervals(np.stack([values["less"] - base, values["same"] - base]))
    for key, verdict in ((LOGPROB, None), (REPEAT, "better")):
        lower = less[key].difference
        assert lower is not None
        assert (lower.word, lower.verdict) == ("lower", verdict)
        assert lower.low is not None
        assert lower.high is not None
        assert lower.low < -1 < lower.high < 0
        # Wider than the interval of one comparison, and not by more than the correction for two.
        alone = raw.high[0] - raw.low[0]
        assert alone < lower.high - lower.low < 1.3 * alone
        assert lower.p is not None
        assert lower.p < 0.05
        other = same[key].difference
        assert other is not None
        assert (other.word, other.verdict) == ("no significant difference", None)
        assert other.p is not None
        assert raw.p[1] < other.p <= 1
        assert other.low is not None
        assert other.high is not None
        assert other.low < 0 < other.high


def test_no_interval_reaches_beyond_what_a_share_can_be(outputs: Path) -> None:
    for name, column in {"greedy": [0.0] * 7 + [0.9], "less": [0.0] * 8}.items():
        store(outputs, f"m-set-{name}", rows(distinct_2=np.array(column)), {DISTINCT: float(np.mean(column))})
    comparison = compared(sweep_of(outputs, sweep_point("greedy"), sweep_point("less")))
    own = comparison.cells["m/greedy"][DISTINCT]
    assert own.low is not None
    assert own.high is not None
    assert 0.0 <= own.low < 0.9 / 8 < own.high <= 1.0
    difference = comparison.cells["m/less"][DISTINCT].difference
    assert difference is not None
    assert difference.low is not None
    assert difference.low >= -1.0


def test_a_points_own_interval_is_around_its_value(outputs: Path) -> None:
    rng = np.random.default_rng(1)
    distinct, tokens = rng.random(25), rng.integers(5, 50, 25)
    logprob = -rng.random(25)
    weighted = float((logprob * tokens).sum() / tokens.sum())
    samples = rows(distinct_2=distinct, mean_logprob=logprob, output_tokens=tokens.tolist())
    metrics = {DISTINCT: float(distinct.mean()), LOGPROB: weighted, TOKENS: 999.0, "memory/peak_mb": 5.0}
    store(outputs, "m-set-greedy", samples, metrics)
    comparison = compared(sweep_of(outputs, sweep_point("greedy")))
    cells = comparison.cells["m/greedy"]
    raw = mean_intervals(distinct[None])
    assert (cells[DISTINCT].low, cells[DISTINCT].high) == pytest.approx((raw.low[0], raw.high[0]))
    # A mean over tokens: residuals by Taylor's series of a ratio of sums.
    residuals = mean_intervals(((logprob - weighted) * tokens / tokens.mean())[None])
    assert cells[LOGPROB].low == pytest.approx(weighted + residuals.low[0])
    assert cells[LOGPROB].high == pytest.approx(weighted + residuals.high[0])
    assert cells[TOKENS].low is None  # not the mean of its samples
    assert cells["memory/peak_mb"].low is None
    assert [metric.key for metric in comparison.metrics] == [LOGPROB, DISTINCT, TOKENS, "memory/peak_mb"]


def test_missing_values_and_prompts_are_left_out_and_noted(outputs: Path) -> None:
    store(outputs, "m-set-a", rows(distinct_2=[1.0, 2.0, 3.0, math.nan]), {DISTINCT: 2})
    store(outputs, "m-set-b", rows(distinct_2=[2.0, 4.0, math.nan, 1.0]), {DISTINCT: 2})
    store(outputs, "m-set-c", rows(distinct_2=[5.0, 2.0]), {DISTINCT: 2})
    comparison = compared(sweep_of(outputs, sweep_point("a"), sweep_point("b"), sweep_point("c")))
    b, c = (comparison.cells[f"m/{name}"][DISTINCT].difference for name in "bc")
    assert b is not None
    assert c is not None
    assert (b.mean, b.prompts) == (1.5, 2)
    assert (c.mean, c.prompts) == (2.0, 2)
    (note,) = [note for note in comparison.notes if "prompts" in note]
    assert "m/c" in note
    assert "m/b" not in note


def test_prompts_of_another_set_are_the_same_where_their_text_is(outputs: Path) -> None:
    def samples(second: str, values: list[float]) -> list[dict[str, object]]:
        texts = ["It was", second]
        return [
            {"prompt_id": f"p{i}", "sample": 0, "prompt": texts[i], "distinct_2": value}
            for i, value in enumerate(values)
        ]

    store(outputs, "m-set-a", samples("a dark", [0.1, 0.2]), {DISTINCT: 0.15})
    store(outputs, "m-other-a", samples("a stormy", [0.3, 0.9]), {DISTINCT: 0.6})
    points = sweep_point("a"), replace(sweep_point("a", prompts="other"), label="other")
    difference = compared(sweep_of(outputs, *points)).cells["other"][DISTINCT].difference
    assert difference is not None
    assert difference.mean == pytest.approx(0.2)
    assert difference.prompts == 1
    assert difference.low is None


def test_latencies_are_paired_by_timed_prompt(outputs: Path) -> None:
    keys = ("latency/ttft_p50_ms", "latency/itl_p50_ms", "throughput/tokens_per_s")
    metrics = dict.fromkeys(keys, 1.0)
    slow = [*timed("x", 5, 5.5, 5.3), *timed("y", 50, 51, 50.5)]
    quick = [*timed("x", 3, 3.5, 3.3), *timed("y", 48, 49, 48.5), *timed("z", 900, 901)]
    batched = timed("x", 1, 2, batch_size=2)
    for name, timing in (("slow", slow), ("quick", quick), ("batched", batched)):
        store(outputs, f"m-set-{name}", rows(), metrics, timing)
    comparison = compared(sweep_of(outputs, *map(sweep_point, ("slow", "quick", "batched"))))
    first, between, rate = (comparison.cells["m/quick"][key].difference for key in keys)
    assert rate is None
    assert first is not None
    assert (first.mean, first.prompts) == (pytest.approx(-2), 2)
    assert (first.word, first.verdict) == ("lower", "better")
    variances = [np.var(t, ddof=1) / 3 for t in ([5, 5.5, 5.3], [50, 51, 50.5])]
    error = math.sqrt(2 * sum(variances) / 4)
    freedom = (2 * sum(variances)) ** 2 / (2 * sum(v**2 / 2 for v in variances))
    assert first.p == pytest.approx(1 - (1 - 2 * stats.t.sf(2 / error, freedom)) ** 2)  # of two comparisons
    assert between is not None
    assert (between.mean, between.p, between.word) == (0, None, "no significant difference")
    assert comparison.cells["m/batched"][keys[0]].difference is None
    assert any("m/batched" in note and "batch" in note for note in comparison.notes)


def test_the_baseline_is_the_one_named_else_the_first_that_is_done(outputs: Path) -> None:
    for name in ("a", "b"):
        store(outputs, f"m-set-{name}", rows(distinct_2=[0.5]), {DISTINCT: 0.5})
    points = sweep_point("gone", status="failed"), sweep_point("a"), sweep_point("b")
    assert compared(sweep_of(outputs, *points)).baseline == "m/a"
    assert compared(sweep_of(outputs, *points, baseline="m/b")).baseline == "m/b"
    comparison = compared(sweep_of(outputs, *points, baseline="m/gone"))
    assert comparison.baseline == "m/a"
    assert any("compare.baseline=m/gone" in note for note in comparison.notes)


def test_points_that_failed_have_no_cells_and_nothing_complete_is_no_comparison(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), failed="top_p", tokens=5)
    comparison = compared(sweep)
    assert set(comparison.cells) == {"m/fp32/greedy", "m/fp32/temperature"}
    none = compared(
        sweep_of(outputs, sweep_point("a", status="failed"), sweep_point("b", status="interrupted"))
    )
    assert none.baseline is None
    assert not none.cells
    assert not none.metrics
    assert none.front is None
    assert not none.approximate


def test_differences_within_the_noise_are_marked(outputs: Path) -> None:
    for name, value in (("a", 1.0), ("b", 1.2), ("c", 1.4)):
        stored = store(outputs, f"m-set-{name}", rows(distinct_2=[value] * 9), {DISTINCT: value})
        if name != "a":
            stored.write_json("noise.json", {"metrics": {DISTINCT: -0.3 if name == "b" else 0.1, "x/y": 2}})
    stored.path("noise.json").with_name("other").write_text("")
    comparison = compared(sweep_of(outputs, sweep_point("a"), sweep_point("b"), sweep_point("c")))
    assert comparison.noise == {DISTINCT: 0.3, "x/y": 2}
    b, c = (comparison.cells[f"m/{name}"][DISTINCT].difference for name in "bc")
    assert b is not None
    assert c is not None
    assert (b.within_noise, c.within_noise) == (True, False)
    assert b.word == c.word == "higher"
    stored.path("noise.json").write_text(json.dumps([1]))
    assert compared(sweep_of(outputs, sweep_point("a"), sweep_point("c"))).noise == {}


def test_the_front_is_in_the_metrics_that_were_taken(outputs: Path) -> None:
    itl = "latency/itl_p50_ms"
    for name, metrics in {
        "quick": {itl: 1.0, DISTINCT: 0.2},
        "both": {itl: 2.0, DISTINCT: 0.9},
        "beaten": {itl: 2.5, DISTINCT: 0.8},
        "untimed": {DISTINCT: 0.95},
    }.items():
        store(outputs, f"m-set-{name}", rows(), metrics)
    points = [sweep_point(name) for name in ("quick", "both", "beaten", "untimed")]
    comparison = compared(sweep_of(outputs, *points, pareto=[itl, "text/none", DISTINCT]))
    assert comparison.front is not None
    assert comparison.front.metrics == (itl, DISTINCT)
    assert comparison.front.labels == ("m/quick", "m/both")
    assert comparison.front.compared == ("m/quick", "m/both", "m/beaten")
    assert any("text/none" in note for note in comparison.notes)
    assert compared(sweep_of(outputs, *points, pareto=[itl, "text/none"])).front is None
    assert compared(sweep_of(outputs, *points)).front is None  # of the default metrics only one was taken


def test_many_points_make_a_short_note(outputs: Path) -> None:
    points = [sweep_point(f"d{i}") for i in range(9)]
    for i, point in enumerate(points):
        store(outputs, point.point_id, rows(distinct_2=[0.5] * (1 + (i == 0))), {DISTINCT: 0.5})
    (note,) = [note for note in compared(sweep_of(outputs, *points)).notes if "prompts" in note]
    assert "m/d1, m/d2, m/d3 and 5 more runs" in note
