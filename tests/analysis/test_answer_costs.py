"""What an answer says of cost, speed and quantization, of sweeps whose figures are worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_ind
from valued_points import point_results, rows, store, sweep_of, sweep_point, timed

from harness.analysis.answer import Answer
from harness.analysis.compare_points import compare
from harness.analysis.sentence import Sentence
from harness.store.sweeps import SweepPoint

CHRF, ITL, WEIGHTS, PEAK = (
    "reference/chrf",
    "latency/itl_p50_ms",
    "memory/weights_mb",
    "memory/peak_mb",
)
PROMPTS = 20
BASE = np.random.default_rng(0).uniform(20, 60, PROMPTS)
NOISE = np.random.default_rng(1).normal(size=(8, PROMPTS))
REPEATS = np.array([-0.03, 0.01, 0.02, -0.01, 0.01])
"""Of a timed prompt's milliseconds per token."""


def put(
    outputs: Path,
    point: SweepPoint,
    chrf: Sequence[float],
    itl: float | None = None,
    reference: str | None = None,
    noise: float = 1.0,
    **metrics: float,
) -> SweepPoint:
    """Store a point, timed on three prompts around `itl` ms per token, `noise` times REPEATS apart."""
    values = {CHRF: float(np.mean(chrf)), **{key.replace("__", "/"): v for key, v in metrics.items()}}
    timing = []
    if itl is not None:
        values[ITL] = itl
        for prompt in range(3):
            for repeat, change in enumerate(REPEATS):
                (row,) = timed(f"p{prompt}", 10.0, itl=itl + noise * float(change))
                timing.append({**row, "repeat": repeat})
    stored = store(outputs, point.point_id, rows(chrf=chrf), values, timing)
    parts = {"drift": {"reference": reference}} if reference else {}
    stored.path("parts.json").write_text(json.dumps(parts))
    return point


def answer(outputs: Path, points: Sequence[SweepPoint]) -> Answer:
    sweep = sweep_of(outputs, *points)
    found = compare(sweep, point_results(sweep)).answer
    assert found is not None
    return found


def titled(found: Answer) -> Mapping[str, Sentence]:
    return {sentence.title: sentence for sentence in found.sentences}


def quantized(point: SweepPoint, name: str) -> SweepPoint:
    """Return a point of another quantization, stored in a folder of its own."""
    label = point.label.replace("m/", f"m/{name}/")
    return replace(point, quantization=name, point_id=f"{point.point_id}-{name}", label=label)


def test_what_the_best_run_costs_beside_the_least_of_all(outputs: Path) -> None:
    points = [
        put(outputs, sweep_point("good"), BASE + 20 + NOISE[0], itl=6.0, memory__weights_mb=500.0),
        put(outputs, sweep_point("bad"), BASE, itl=4.0, memory__weights_mb=500.0),
    ]
    cost = titled(answer(outputs, points))["Cost"]
    assert cost.text() == "m/good takes 6.00 ms per token (1.5x the least), 500 MB of weights."


def test_the_fastest_and_the_cheaper_of_equally_good_runs(outputs: Path) -> None:
    """Runs a and b are equally good, c is fastest and much worse."""
    points = [
        put(outputs, sweep_point("a"), BASE + 20 + NOISE[0], itl=6.0),
        put(
            outputs,
            sweep_point("b"),
            BASE + 20 + NOISE[0] - 0.02 + (NOISE[1] - NOISE[1].mean()) / 10,
            itl=5.0,
        ),
        put(outputs, sweep_point("c"), BASE, itl=4.0),
    ]
    found = titled(answer(outputs, points))
    assert found["Fastest"].text() == "m/c with 4.00 ms per token; slowest is m/a with 6.00 (1.5x)."
    assert found["Cheaper"].text() == "m/b is not significantly worse than m/a and faster: 5.00 vs. 6.00 ms."


def test_the_best_run_that_is_fastest_has_no_cheaper_one(outputs: Path) -> None:
    points = [
        put(outputs, sweep_point("a"), BASE + 20 + NOISE[0], itl=4.0),
        put(outputs, sweep_point("b"), BASE + NOISE[1], itl=5.0),
    ]
    found = titled(answer(outputs, points))
    assert "Cheaper" not in found
    assert found["Fastest"].text() == "m/a with 4.00 ms per token; slowest is m/b with 5.00 (1.2x)."


def test_a_slower_run_that_varies_too_much_is_not_passed_over_as_if_it_were_fast(outputs: Path) -> None:
    points = [
        put(outputs, sweep_point("a"), BASE, itl=4.0),
        put(outputs, sweep_point("b"), BASE, itl=5.0),
        put(outputs, sweep_point("c"), BASE, itl=9.0, noise=1000.0),
    ]
    assert titled(answer(outputs, points))["Fastest"].text() == (
        "m/a with 4.00 ms per token, no significant difference from m/c; "
        "the slowest that differs significantly is m/b with 5.00 (1.2x)."
    )


@pytest.mark.parametrize("gap", [0.004, 0.04])
def test_speeds_differ_where_welch_says_so(outputs: Path, gap: float) -> None:
    """Two runs: prompts alike, so that the interval is the one of 15 times against 15."""
    points = [put(outputs, sweep_point(name), BASE, itl=4.0 + i * gap) for i, name in enumerate("ab")]
    found = titled(answer(outputs, points))
    times = np.tile(REPEATS, 3)
    significant = ttest_ind(times, times + gap, equal_var=False).pvalue < 0.05
    assert significant == (gap == 0.04)
    assert ("Fastest" in found) == significant
    if not significant:
        assert found["Speed"].text() == "no significant difference in time per token between the 2 runs."
        assert found["Speed"].evidence == "4.00 to 4.00 ms per token"


def test_what_a_quantization_costs_over_all_strategies(outputs: Path) -> None:
    """Two strategies lose 3 and 5 points of chrF: 4 on average; ratios are medians of 0.25 and 1.5, 2."""
    points = []
    for i, (name, loss, slower) in enumerate((("greedy", 3.0, 1.5), ("top_p", 5.0, 2.0))):
        plain = put(outputs, sweep_point(name), BASE + NOISE[i], itl=4.0, memory__weights_mb=1000.0)
        points.append(plain)
        points.append(
            put(
                outputs,
                quantized(plain, "nf4"),
                BASE + NOISE[i] - loss + NOISE[2 + i] / 10,
                itl=4.0 * slower,
                reference=plain.point_id,
                memory__weights_mb=250.0,
            )
        )
    losses = np.mean([NOISE[2] / 10 - 3, NOISE[3] / 10 - 5], axis=0)
    sentence = titled(answer(outputs, points))["nf4"]
    assert sentence.text() == (
        f"vs. fp32: chrF −{-losses.mean():.1f}, 0.25x the memory of weights, 1.75x the time per token."
    )
    low, high = sentence.evidence.replace("−", "-").split("[")[1].split("]")[0].split(", ")
    reach = 2.09 * losses.std(ddof=1) / PROMPTS**0.5  # Student's t of 19 degrees of freedom
    assert float(low) == pytest.approx(losses.mean() - reach, abs=0.06)
    assert float(high) == pytest.approx(losses.mean() + reach, abs=0.06)
    assert sentence.evidence.endswith("20 prompts, 2 strategies")


def test_a_quantization_that_costs_nothing_significant_says_so(outputs: Path) -> None:
    plain = put(outputs, sweep_point("greedy"), BASE)
    low = put(outputs, quantized(plain, "nf4"), BASE + NOISE[0] - NOISE[0].mean(), reference=plain.point_id)
    sentence = titled(answer(outputs, [plain, low]))["nf4"]
    assert sentence.text() == "vs. fp32: chrF 0.0 (no significant difference)."


def test_a_quantization_without_its_reference_has_no_cost(outputs: Path) -> None:
    lone = put(outputs, quantized(sweep_point("greedy"), "nf4"), BASE, reference="of-another-sweep")
    assert "nf4" not in titled(answer(outputs, [lone]))
