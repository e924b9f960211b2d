"""Sweeps over numeric keys, and made-up comparisons of them: known curves, no statistics behind them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fake_points import PROMPTS, write_point

from harness.analysis.answer import Answer
from harness.analysis.comparison import Cell, Comparison, Difference, Effect, Front, plain_comparison
from harness.analysis.factors import factors_of
from harness.analysis.metric_catalog import metric_of
from harness.analysis.point_results import PointResult
from harness.analysis.sentence import Link, Sentence, listed
from harness.analysis.swept import BestSet, Interaction, SweptKey, Trend
from harness.config.labels import short
from harness.store.sweeps import Sweep, SweepPoint

GOAL = "reference/chrf"
OFFSETS = {"greedy": -4.0, "top_p": 2.0, "min_p": 3.0, "bnb_nf4": -3.0, "bnb_int8": -1.0}


def chrf(quantization: str, decoding: str, keys: Mapping[str, float]) -> float:
    """Return the goal's value: best at a temperature of 0.7 and a top_p of 0.9."""
    temperature, top_p = keys.get("decoding.temperature", 0.7), keys.get("decoding.top_p", 0.9)
    offset = OFFSETS.get(decoding, 0.0) + OFFSETS.get(quantization, 0.0)
    return round(40 + offset - 30 * (temperature - 0.7) ** 2 - 60 * (top_p - 0.9) ** 2, 4)


def swept_sweep(
    outputs: Path,
    decodings: Sequence[str] = ("top_p", "min_p"),
    quantizations: Sequence[str] = ("fp32",),
    keys: Mapping[str, Sequence[float]] | None = None,
    unswept: Sequence[str] = (),
    **options: Any,
) -> Sweep:
    """Save the product of decodings, quantizations and values of `keys`.

    Args:
        outputs: of the project.
        decodings: names; any text.
        quantizations: names.
        keys: values by dotted key.
        unswept: those of the decodings that have none of the keys, one point each.
        options: of `write_point`.
    """
    options = {"texts": PROMPTS, "tokens": 24, **options}
    points = []
    for quantization, decoding in itertools.product(quantizations, decodings):
        own = {} if decoding in unswept else (keys or {})
        for values in itertools.product(*own.values()):
            varied: dict[str, Any] = dict(zip(own, values, strict=True))
            index = len(points)
            goal = chrf(quantization, decoding, varied)
            metrics = {
                GOAL: goal,
                "text/repeated_4": round(0.4 - 0.2 * varied.get("decoding.temperature", 1.0), 4),
                "text/distinct_2": round(0.5 + 0.01 * (index % 7), 4),
                "latency/itl_p50_ms": 2.0 + 0.1 * index + (2.0 if quantization != "fp32" else 0.0),
                "text/looped_share": 0.0,
            }
            point_id = f"{index:012d}"
            write_point(outputs, point_id, seed=index, metrics=metrics, decoding=decoding, **options)
            settings = "".join(f" {short(key)}={value}" for key, value in varied.items())
            label = f"m/{quantization}/{decoding}{settings}"
            varied |= {"decoding": decoding} if len(decodings) > 1 else {}
            points.append(SweepPoint(label, point_id, "m", quantization, "made_up", decoding, varied, "done"))
    sweep = Sweep("swept", "0123456789", outputs / "sweeps" / "swept-0123456789", {}, tuple(points), 0.0)
    sweep.save()
    return sweep


def swept_keys(points: Sequence[PointResult]) -> tuple[SweptKey, ...]:
    """Return the numeric keys that vary."""
    found = []
    for key in dict.fromkeys(key for p in points for key in p.point.varied if "." in key):
        value_of = {p.point.label: float(p.point.varied[key]) for p in points if key in p.point.varied}
        group_of = {
            p.point.label: f"{p.point.quantization}/{p.point.decoding}"
            for p in points
            if key in p.point.varied
        }
        if len(values := sorted(set(value_of.values()))) > 1:
            found.append(SweptKey(key, tuple(values), value_of, group_of))
    return tuple(found)


def _trend(metric: str, key: SweptKey, metrics: Mapping[str, float]) -> Trend:
    means = []
    for value in key.values:
        of_value = [metrics[label] for label, v in key.value_of.items() if v == value]
        means.append((value, sum(of_value) / len(of_value), None, None))
    slope = (means[-1][1] - means[0][1]) / (means[-1][0] - means[0][0])
    better = metric_of(metric).better
    ordered = sorted(means, key=lambda m: -m[1] if better == "higher" else m[1])
    best = ordered[0][0] if better else None
    plateau = tuple(sorted(m[0] for m in ordered[:2])) if better else ()
    inside = best is not None and means[0][0] < best < means[-1][0]
    shape: Any = "optimum" if inside else "falls" if slope < 0 else "rises" if slope > 0 else "flat"
    return Trend(metric, key.key, slope, slope - 1, slope + 1, 0.01, 0.02, shape, best, plateau,
                 tuple(means), 6)  # fmt: skip


def swept_comparison(points: Sequence[PointResult], half: float = 1.5) -> Comparison:
    """Return a comparison with every record of swept keys filled in; intervals are the value ± `half`."""
    plain = plain_comparison(points)
    labels = [p.point.label for p in points]
    metrics = {label: p.metrics for label, p in zip(labels, points, strict=True)}
    cells: dict[str, dict[str, Cell]] = {}
    for label in labels:
        cells[label] = {}
        for key, value in metrics[label].items():
            width = half if key == GOAL else 0.02 * abs(value)
            mean = value - metrics[labels[0]].get(key, value)
            word: Any = "no significant difference" if abs(mean) < 2 else "higher" if mean > 0 else "lower"
            better = metric_of(key).better
            verdict: Any = None if abs(mean) < 2 or not better else "better" if better == word else "worse"
            difference = Difference(mean, mean - width, mean + width, 0.01, word, verdict, False, 6)
            constant = key == "text/looped_share"
            cells[label][key] = Cell(
                value,
                None if constant else value - width,
                None if constant else value + width,
                difference if label != labels[0] else None,
                constant,
            )
    ranked = sorted(labels, key=lambda label: -metrics[label][GOAL])
    ties = tuple(each for each in ranked[1:] if metrics[ranked[0]][GOAL] - metrics[each][GOAL] < 2)
    best = BestSet(ranked[0], ties, tuple(each for each in ranked[1:] if each not in ties))
    swept = swept_keys(points)
    numbers = [m.key for m in plain.metrics if all(m.key in metrics[label] for label in labels)]
    sentences = [
        Sentence("Best chrF", (Link("point", best.label), f": chrF {metrics[best.label][GOAL]:.1f}."),
                 "95% interval 37.5 to 40.5, 6 prompts; adjusted for all pairs of points.", "good"),
        Sentence("Equally good", (*listed(ties), " are not significantly worse."), "6 prompts"),
        Sentence("Most loops", ("none.",)),
        Sentence("Look at", ("prompt ", Link("prompt", "chat"), " has the largest spread."), "chrF 12 to 55"),
    ]  # fmt: skip
    factors = factors_of(points)
    effects = [
        Effect(key, name, 0.8 if name == next(iter(factors)) else 0.15, 3.0,
               _level_means(factor.levels, [metrics[label][key] for label in labels]),
               ("quantization",) if name == "decoding.top_p" else ())
        for key in numbers
        for name, factor in factors.items()
    ]  # fmt: skip
    front = ("latency/itl_p50_ms", GOAL)
    return Comparison(
        baseline=labels[0],
        metrics=plain.metrics,
        cells=cells,
        effects=tuple(effects),
        front=Front(front, (labels[0], best.label), tuple(labels)),
        disagreement={prompt_id: 0.5 for p in points[:1] for prompt_id in p.prompt_ids},
        answer=Answer(GOAL, best.label, ties, tuple(sentences)),
        swept=swept,
        trends=tuple(_trend(key, each, {x: metrics[x][key] for x in each.value_of})
                     for each in swept for key in numbers),
        interactions=tuple(
            Interaction(GOAL, (one.key, other.key), 0.5, -0.5, 1.5, 0.3)
            for one, other in itertools.combinations(swept, 2)
        ),
        best={GOAL: best},
        tested="p-values test that the mean difference over prompts is zero.",
    )  # fmt: skip


def _level_means(levels: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    by_level: dict[str, list[float]] = {}
    for level, value in zip(levels, values, strict=True):
        by_level.setdefault(level, []).append(value)
    return {level: sum(found) / len(found) for level, found in by_level.items()}
