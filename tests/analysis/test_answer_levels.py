"""Which strategy is best over what it was combined with, and which precisions belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from valued_points import point_results, rows, store, sweep_of, sweep_point

from harness.analysis.answer import Answer
from harness.analysis.answer_levels import quantization_pairs
from harness.analysis.compare_points import compare
from harness.analysis.sentence import Sentence
from harness.store.sweeps import SweepPoint

CHRF = "reference/chrf"
PROMPTS = 20
BASE = np.random.default_rng(0).uniform(20, 60, PROMPTS)
NOISE = np.random.default_rng(1).normal(size=(20, PROMPTS))


def put(outputs: Path, point: SweepPoint, chrf: Sequence[float], **metrics: float) -> SweepPoint:
    found = {CHRF: float(np.mean(chrf)), **{key.replace("__", "/"): v for key, v in metrics.items()}}
    store(outputs, point.point_id, rows(chrf=chrf), found).path("parts.json").write_text("{}")
    return point


def quantized(decoding: str, quantization: str, model: str = "m", **varied: float) -> SweepPoint:
    point = sweep_point(decoding, model, **varied)
    return replace(
        point,
        quantization=quantization,
        point_id=f"{point.point_id}-{quantization}",
        label=point.label.replace(f"{model}/", f"{model}/{quantization}/"),
    )


def answer(outputs: Path, points: Sequence[SweepPoint]) -> Answer:
    sweep = sweep_of(outputs, *points)
    found = compare(sweep, point_results(sweep)).answer
    assert found is not None
    return found


def titled(found: Answer, title: str) -> Sentence | None:
    return next((sentence for sentence in found.sentences if sentence.title == title), None)


def test_strategies_are_compared_over_both_quantizations(outputs: Path) -> None:
    """Each run alone is too noisy, half of the noise cancels between the precisions."""
    offsets = {"greedy": 4.0, "top_p": 0.0, "beam": 4.2}
    values = {}
    points = []
    for i, (name, offset) in enumerate(offsets.items()):
        for sign, quantization in ((1, "fp32"), (-1, "nf4")):
            column = BASE + offset + sign * 8 * NOISE[i] + NOISE[5 + i]
            values[name, quantization] = column
            points.append(put(outputs, quantized(name, quantization), column))
    means = {name: float(np.mean([values[name, q].mean() for q in ("fp32", "nf4")])) for name in offsets}
    best, second = sorted(("greedy", "beam"), key=lambda name: -means[name])
    sentence = titled(answer(outputs, points), "Strategy")
    assert sentence is not None
    assert sentence.text() == (
        f"over both quantizations {best} has the highest chrF, {means[best]:.1f}: "
        f"significantly better than top_p; no significant difference from {second}."
    )
    assert sentence.evidence == "20 prompts, 95% over all pairs of 3"


def test_no_difference_between_levels_says_so(outputs: Path) -> None:
    points = [
        put(outputs, quantized(name, q), BASE + 3 * NOISE[2 * i + j])
        for i, name in enumerate(("a", "b"))
        for j, q in enumerate(("fp32", "nf4"))
    ]
    sentence = titled(answer(outputs, points), "Strategy")
    assert sentence is not None
    assert sentence.text().startswith("over both quantizations no significant difference in chrF: ")
    assert sentence.tone == ""


@pytest.mark.parametrize("grid", [["a fp32", "b fp32"], ["a fp32", "a nf4", "b fp32"]])
def test_without_a_whole_grid_runs_are_compared_alone(outputs: Path, grid: list[str]) -> None:
    points = [put(outputs, quantized(*name.split()), BASE + 9 * i + NOISE[i]) for i, name in enumerate(grid)]
    assert titled(answer(outputs, points), "Strategy") is None


def test_a_strategys_own_keys_are_no_grid(outputs: Path) -> None:
    points = []
    for i, t in enumerate((0.5, 1.0)):
        points.append(put(outputs, quantized("top_p", "fp32", decoding__temperature=t), BASE + NOISE[i]))
    points.append(put(outputs, quantized("greedy", "fp32"), BASE + NOISE[4]))
    assert titled(answer(outputs, points), "Strategy") is None


def test_precisions_belong_together_without_any_drift(outputs: Path) -> None:
    points = []
    for i, (name, q, size) in enumerate(
        (d, q, size)
        for d in ("greedy", "top_p")
        for q, size in (("nf4", 100.0), ("fp32", 400.0), ("fp16", 200.0))
    ):
        points.append(put(outputs, quantized(name, q), BASE + NOISE[i], memory__weights_mb=size))
    completed = point_results(sweep_of(outputs, *points))
    pairs = quantization_pairs(completed, dict.fromkeys(p.point.label for p in completed))
    assert {key: [(a.point.label, b.point.label) for a, b in some] for key, some in pairs.items()} == {
        ("m", "fp32", name): [(f"m/{name}/{d}", f"m/fp32/{d}") for d in ("greedy", "top_p")]
        for name in ("nf4", "fp16")
    }
    assert titled(answer(outputs, points), "nf4") is not None


def test_of_unknown_sizes_none_is_the_reference(outputs: Path) -> None:
    points = [put(outputs, quantized("greedy", q), BASE) for q in ("a", "b")]
    completed = point_results(sweep_of(outputs, *points))
    assert quantization_pairs(completed, {}) == {}


@pytest.mark.parametrize("hot", [0.0, 30.0])
def test_the_part_of_a_grid_that_is_equally_good(outputs: Path, hot: float) -> None:
    """At top_p 0.9 the two highest temperatures are worse, at 0.5 none is."""
    points = []
    for i, t in enumerate((0.5, 0.7, 1.0, 1.5)):
        for j, p in enumerate((0.5, 0.9)):
            loss = hot if t >= 1.0 and p == 0.9 else 0.0
            point = sweep_point("d", decoding__temperature=t, decoding__top_p=p)
            points.append(put(outputs, point, BASE - loss + NOISE[2 * i + j] / 5))
    sentence = titled(answer(outputs, points), "Equally good")
    if not hot:
        assert sentence is None
        return
    assert sentence is not None
    assert sentence.text() == (
        "not significantly worse than the best: temperature 0.5 to 1.5 at top_p 0.5; "
        "temperature 0.5 and 0.7 at top_p 0.9."
    )
    assert sentence.evidence == "6 of 8 runs, 20 prompts"
