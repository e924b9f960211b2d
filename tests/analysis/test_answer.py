"""Answers of sweeps whose right answer is plain by hand, and of random ones that must not contradict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_points import HOSTILE
from valued_points import point_results, rows, store, sweep_of, sweep_point

from harness.analysis.answer import Answer
from harness.analysis.compare_points import compare
from harness.analysis.comparison import Comparison
from harness.analysis.sample_advice import within_prompts
from harness.analysis.sample_table import read_sample_table
from harness.analysis.sentence import Link, Sentence
from harness.analysis.statistics.sample_size import (
    LEAST_PROMPTS,
    in_round_numbers,
    needed_prompts,
    needed_samples,
)
from harness.analysis.statistics.simultaneous import simultaneous_intervals
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import SweepPoint

CHRF, EXACT, LOOPED = "reference/chrf", "reference/exact_match", "text/looped_share"
PROMPTS = 20
BASE = np.random.default_rng(0).uniform(20, 60, PROMPTS)
NOISE = np.random.default_rng(1).normal(size=(8, PROMPTS))
"""Of each prompt and run, so that differences vary a little."""


def put(outputs: Path, point: SweepPoint, metric: str = CHRF, **columns: Sequence[float]) -> SweepPoint:
    """Store a point with these values by prompt; the metric is the mean of the first column."""
    (first, *_) = columns.values()
    store(outputs, point.point_id, rows(**columns), {metric: float(np.nanmean(np.array(first)))})
    return point


def compared(outputs: Path, points: Sequence[SweepPoint], **compare_keys: object) -> Comparison:
    sweep = sweep_of(outputs, *points, **compare_keys)
    return compare(sweep, point_results(sweep))


def answer(outputs: Path, points: Sequence[SweepPoint], **compare_keys: object) -> Answer:
    found = compared(outputs, points, **compare_keys).answer
    assert found is not None
    return found


def of(found: Answer, title: str) -> Sentence:
    (one,) = [sentence for sentence in found.sentences if sentence.title == title]
    return one


def links(sentence: Sentence) -> list[str]:
    return [span.name for span in sentence.spans if isinstance(span, Link)]


def test_a_clear_winner_of_four(outputs: Path) -> None:
    offsets = {"greedy": 0, "top_p": 10, "min_p": 9.9, "beam": -5}
    points = [
        put(outputs, sweep_point(name), chrf=BASE + offset + NOISE[i])
        for i, (name, offset) in enumerate(offsets.items())
    ]
    means = {
        name: float((BASE + offset + NOISE[i]).mean()) for i, (name, offset) in enumerate(offsets.items())
    }
    first, second = sorted(("top_p", "min_p"), key=lambda name: -means[name])
    found = answer(outputs, points)
    assert (found.goal, found.best, found.ties) == (CHRF, f"m/{first}", (f"m/{second}",))
    best = of(found, "Best")
    assert best.text() == (
        f"m/{first} has the highest chrF, {means[first]:.1f}: significantly better than m/greedy and m/beam; "
        f"no significant difference from m/{second}."
    )
    assert best.tone == "good"
    assert f"better by {means[first] - means['greedy']:.1f} [" in best.evidence
    assert "20 prompts, 95% over all pairs of 4 runs" in best.evidence
    assert not {"No winner", "More prompts"} & {sentence.title for sentence in found.sentences}


def test_of_a_metric_that_should_be_low_the_lowest_is_best(outputs: Path) -> None:
    points = [
        put(outputs, sweep_point(name), "text/longest_repeat", longest_repeat=BASE + offset + NOISE[i])
        for i, (name, offset) in enumerate({"a": 0, "b": -20}.items())
    ]
    best = of(answer(outputs, points, goal="longest_repeat"), "Best")
    assert best.text().startswith("m/b has the lowest longest repeat, ")
    assert best.text().endswith(": significantly better than m/a.")


def test_nothing_differs_and_how_many_prompts_would_show_it(outputs: Path) -> None:
    """The pair that is named has the small deviation; another one's is ten times as large."""
    values = {"a": BASE, "b": BASE - 0.3 + 10 * (NOISE[0] - NOISE[0].mean()), "c": BASE - 0.5 + NOISE[1]}
    values["c"] += -0.5 - (values["c"] - BASE).mean()
    points = [put(outputs, sweep_point(name), chrf=column) for name, column in values.items()]
    found = answer(outputs, points)
    deviation = float((values["a"] - values["c"]).std(ddof=1))
    assert deviation == pytest.approx(1, abs=0.4)
    needed = needed_prompts(0.5, deviation, 3)
    assert needed is not None
    assert needed > PROMPTS
    winner = of(found, "No winner")
    assert winner.text().startswith(
        "no significant difference in chrF on these 20 prompts; the highest has m/a "
    )
    assert links(winner) == ["m/a", "m/c"]
    assert found.ties == ("m/b", "m/c")
    advice = of(found, "More prompts").text()
    assert advice.startswith(f"about {in_round_numbers(needed)} prompts (now 20) would show a difference of ")
    assert "this size, 0.5" in advice


def test_advice_for_a_constant_difference_is_what_sign_flips_need(outputs: Path) -> None:
    points = [put(outputs, sweep_point(name), chrf=[40.0 + i] * 3) for i, name in enumerate("ab")]
    advice = of(answer(outputs, points), "More prompts").text()
    assert advice == "about 6 prompts (now 3) would show a difference of this size, 1.0."


def test_the_least_number_of_prompts_is_where_equal_differences_become_significant(outputs: Path) -> None:
    for prompts, proof in ((LEAST_PROMPTS - 1, False), (LEAST_PROMPTS, True)):
        found = simultaneous_intervals(np.ones((1, prompts)) + NOISE[:1, :prompts] / 100)
        assert (found.p[0] < 0.05) == proof


def test_one_prompt_shows_nothing(outputs: Path) -> None:
    points = [put(outputs, sweep_point(name), chrf=[40.0 + i]) for i, name in enumerate("ab")]
    found = answer(outputs, points)
    assert "on this 1 prompt;" in of(found, "No winner").text()
    assert of(found, "More prompts").text() == "differences need two prompts or more."


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_equal_means_are_no_difference(outputs: Path, shift: float) -> None:
    """Also where the prompts differ: two up, two down."""
    column = BASE + shift * np.tile([1, -1], PROMPTS // 2)
    points = [put(outputs, sweep_point("a"), chrf=BASE), put(outputs, sweep_point("b"), chrf=column)]
    found = answer(outputs, points)
    assert of(found, "No difference").text() == f"all runs have the same chrF, {BASE.mean():.1f}."
    assert "No winner" not in {sentence.title for sentence in found.sentences}


def test_a_single_run_has_a_result(outputs: Path) -> None:
    found = answer(outputs, [put(outputs, sweep_point("a"), chrf=BASE)])
    assert (found.goal, found.best) == (CHRF, None)
    result = of(found, "Result")
    assert result.text() == f"chrF {BASE.mean():.1f}."
    assert result.evidence.endswith("20 prompts")
    assert len(found.sentences) == 1


def test_without_references_there_is_no_goal_but_what_differs(outputs: Path) -> None:
    values = {"a": BASE / 100, "b": BASE / 100 + 0.2 + NOISE[0] / 100}
    points = [put(outputs, sweep_point(n), "text/distinct_2", distinct_2=v) for n, v in values.items()]
    found = answer(outputs, points)
    assert (found.goal, found.best) == (None, None)
    assert "these differ significantly from the baseline: dist-2." in of(found, "No goal").text()
    assert of(found, "Highest dist-2").text().startswith("m/b with ")


def test_a_metric_with_one_value_per_run_claims_no_significance(outputs: Path) -> None:
    for i, name in enumerate("ab"):
        store(outputs, f"m-set-{name}", rows(chrf=BASE), {"reference/bleu": 30.0 + i})
    found = answer(outputs, [sweep_point("a"), sweep_point("b")], goal="bleu")
    assert of(found, "No winner").text() == (
        "m/b has the highest BLEU, 31.0; whether that is significant is not known."
    )
    assert found.best is None


def test_missing_prompts_rank_and_print_alike(outputs: Path) -> None:
    """Run a has the higher value over its own prompts, b over those that both have."""
    a = np.array([10.0] * 10 + [90.0] * 10)
    b = np.array([30.0] * 10 + [np.nan] * 10) + NOISE[0] / 10
    points = [put(outputs, sweep_point(n), chrf=v) for n, v in {"a": a, "b": b}.items()]
    comparison = compared(outputs, points)
    assert comparison.cells["m/a"][CHRF].value > comparison.cells["m/b"][CHRF].value
    assert comparison.answer is not None
    best = of(comparison.answer, "Best").text()
    assert best == (
        f"m/b has the highest chrF over the 10 prompts that all runs have, {np.nanmean(b):.1f}: "
        "significantly better than m/a."
    )


def test_samples_are_advised_where_they_help(outputs: Path) -> None:
    rng = np.random.default_rng(7)
    tables = {}
    for name, offset in {"a": 0.0, "b": 1.2}.items():
        samples = [
            {"prompt_id": f"p{i}", "sample": s, "chrf": BASE[i] + offset + 6 * rng.normal()}
            for i in range(PROMPTS) for s in range(4)
        ]  # fmt: skip
        tables[name] = np.array([row["chrf"] for row in samples]).reshape(PROMPTS, 4)
        store(outputs, f"m-set-{name}", samples, {CHRF: float(tables[name].mean())})
    points = [sweep_point("a"), sweep_point("b")]
    found = answer(outputs, points)
    between = tables["a"] - tables["b"]
    within = float(np.sqrt(between.var(axis=1, ddof=1).mean()))
    means = between.mean(axis=1)
    needed = needed_samples(abs(means.mean()), float(means.std(ddof=1)), within, 4, PROMPTS, 1)
    assert needed is not None
    assert 4 < needed <= 64
    advice = of(found, "More prompts").text()
    assert f", and so would about {in_round_numbers(needed)} samples of each prompt (now 4)" in advice
    read = [
        read_sample_table(p.stored, ["chrf"]) for p in point_results(sweep_of(outputs, *points)) if p.stored
    ]
    known = within_prompts(read[0], read[1], "chrf")
    assert known == (pytest.approx(within), 4)


def test_one_sample_says_nothing_of_samples(outputs: Path) -> None:
    points = [put(outputs, sweep_point(n), chrf=BASE + NOISE[i]) for i, n in enumerate("ab")]
    assert "samples" not in of(answer(outputs, points), "More prompts").text()


def swept(outputs: Path, curve: Mapping[float, float]) -> Answer:
    points = [
        put(outputs, sweep_point("t", decoding__temperature=t), chrf=BASE + change + NOISE[i] / 2)
        for i, (t, change) in enumerate(curve.items())
    ]
    return answer(outputs, points)


def test_a_temperature_that_raises_the_goal(outputs: Path) -> None:
    text = of(swept(outputs, {0.2: 0, 0.5: 3, 0.8: 6, 1.1: 9}), "temperature").text()
    assert text.startswith("chrF rises by ")
    assert text.endswith(" from temperature 0.2 to 1.1; best at 1.1, all others are significantly worse.")
    assert float(text.split()[3]) == pytest.approx(9, abs=0.5)


def test_a_temperature_that_lowers_the_goal_with_a_plateau(outputs: Path) -> None:
    text = of(swept(outputs, {0.2: 0.05, 0.5: 0, 0.8: -6, 1.1: -9}), "temperature").text()
    assert text.startswith("chrF falls by ")
    best, other = ("0.2", "0.5") if "best at 0.2" in text else ("0.5", "0.2")
    assert text.endswith(f"; best at {best}, {other} is not significantly worse.")


def test_a_temperature_with_an_optimum(outputs: Path) -> None:
    text = of(swept(outputs, {0.2: -9, 0.5: 0, 0.8: 0, 1.1: -9}), "temperature").text()
    assert text.startswith("chrF has its optimum within 0.2 to 1.1; best at 0.")
    assert text.endswith(" is not significantly worse.")


def test_a_temperature_that_does_nothing(outputs: Path) -> None:
    sentence = of(swept(outputs, dict.fromkeys((0.2, 0.5, 0.8, 1.1), 0.0)), "temperature")
    assert sentence.text().startswith("no significant trend of chrF over 0.2 to 1.1; best at ")
    assert sentence.text().endswith(", no other value is significantly worse.")
    assert sentence.tone == ""


@pytest.mark.parametrize("product", [0.0, 40.0])
def test_a_grid_has_an_interaction_only_where_there_is_one(outputs: Path, product: float) -> None:
    rng = np.random.default_rng(5)
    points = []
    for t in (0.5, 1.0, 1.5):
        for p in (0.7, 0.9):
            change = 4 * t + 10 * p + product * (t - 1) * (p - 0.8)
            column = BASE + change + rng.normal(size=PROMPTS) / 2
            point = sweep_point("d", decoding__temperature=t, decoding__top_p=p)
            points.append(put(outputs, point, chrf=column))
    found = answer(outputs, points)
    titles = [sentence.title for sentence in found.sentences]
    assert ("temperature x top_p" in titles) == (product > 0)
    assert of(found, "temperature").text().startswith("chrF rises")
    assert of(found, "top_p").text().startswith("chrF rises")
    if product:
        text = of(found, "temperature x top_p")
        assert text.text() == "the effect of temperature on chrF depends on top_p."
        slope = float(text.evidence.split()[4])
        assert slope == pytest.approx(product, rel=0.2)


def test_loops_and_failures_are_named(outputs: Path) -> None:
    for name, looped in {"a": [0.0] * 20, "b": [1.0] * 15 + [0.0] * 5}.items():
        store(outputs, f"m-set-{name}", rows(looped=looped), {LOOPED: float(np.mean(looped))})
    points = [sweep_point("a"), sweep_point("b"), sweep_point("c", status="failed")]
    found = answer(outputs, points)
    assert of(found, "Loops").text() == "m/b ends stuck in a loop: 75% of the outputs."
    assert of(found, "Failed").text() == "1 of 3 runs: m/c."
    assert {of(found, "Loops").tone, of(found, "Failed").tone} == {"bad"}


def test_only_failures_are_an_answer_too(outputs: Path) -> None:
    found = answer(outputs, [sweep_point("a", status="failed")])
    assert [sentence.title for sentence in found.sentences] == ["Failed"]


def test_hostile_labels_are_links_only(outputs: Path) -> None:
    points = []
    for i, name in enumerate(("script", "comment", "bidi", "control")):
        point = sweep_point(f"d{i}", decoding__temperature=0.1 * (i + 1))
        points.append(replace(point, label=f"m/{HOSTILE[name]}"))
        looped = [1.0] * (2 * i) + [0.0] * (PROMPTS - 2 * i)
        samples = rows(chrf=BASE + 5 * i + NOISE[i], looped=looped)
        store(outputs, point.point_id, samples, {CHRF: float((BASE + 5 * i).mean()), LOOPED: i / 10})
    points.append(replace(sweep_point("gone", status="failed"), label=f"m/{HOSTILE['script']}x"))
    found = answer(outputs, points)
    assert {"Best", "Loops", "Failed"} <= {sentence.title for sentence in found.sentences}
    labels = [point.label for point in points]
    for sentence in found.sentences:
        assert set(links(sentence)) <= {*labels, *(f"p{i}" for i in range(PROMPTS))}
        for words in (sentence.title, sentence.evidence, *(s for s in sentence.spans if isinstance(s, str))):
            assert not any(label in words or label[2:12] in words for label in labels)


def pair_p(rows_of: Mapping[str, np.ndarray], baseline: str) -> dict[frozenset[str], float]:
    """Return the smaller p of each pair of rows: of all pairs, and of those with the baseline alone."""
    names = list(rows_of)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    all_pairs = simultaneous_intervals(np.stack([rows_of[a] - rows_of[b] for a, b in pairs]))
    found = {frozenset(pair): float(p) for pair, p in zip(pairs, all_pairs.p, strict=True)}
    others = [name for name in names if name != baseline]
    ours = simultaneous_intervals(np.stack([rows_of[name] - rows_of[baseline] for name in others]))
    for name, p in zip(others, ours.p, strict=True):
        pair = frozenset((name, baseline))
        found[pair] = min(found[pair], float(p))
    return found


@pytest.mark.parametrize("seed", range(25))
def test_random_sweeps_claim_only_what_is_significant_and_agree_with_the_table(
    outputs: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    runs, prompts = int(rng.integers(2, 7)), int(rng.integers(5, 31))
    effects = rng.choice([0.0, 1.0, 2.0, 6.0], runs)
    base = rng.uniform(20, 60, prompts)
    points = []
    for i in range(runs):
        noise = rng.normal(size=prompts) * rng.choice([0.5, 2.0, 4.0])
        points.append(put(outputs, sweep_point(f"d{i}"), chrf=np.clip(base + effects[i] + noise, 0, 100)))
    baseline = points[int(rng.integers(runs))].label
    comparison = compared(outputs, points, baseline=baseline)
    found = comparison.answer
    assert found is not None
    values = {}
    for point in points:
        table = pq.read_table(outputs / "points" / point.point_id / "generations.parquet")
        by_prompt = dict(zip(table["prompt_id"].to_pylist(), table["chrf"].to_pylist(), strict=True))
        values[point.label] = np.array([by_prompt[f"p{i}"] for i in range(prompts)])
    assert found.best == max(values, key=lambda label: values[label].mean())
    p = pair_p(values, baseline)
    worse = [sentence for sentence in found.sentences if sentence.title == "Best"]
    claimed = set(values) - {found.best, *found.ties}
    assert bool(worse) == bool(claimed)
    for label in claimed:
        assert p[frozenset((found.best, label))] < 0.05
    for label in found.ties:
        assert p[frozenset((found.best, label))] >= 0.05
    for label in values:
        difference = comparison.cells[label][CHRF].difference
        verdict = difference.verdict if difference else None
        if found.best == baseline:
            assert verdict != "better"
            assert not (verdict == "worse" and label in found.ties)
        if label == found.best:
            assert verdict != "worse"
            if verdict == "better":
                assert baseline in claimed
    for sentence in found.sentences:
        if "significantly better" in sentence.text():
            named = set(links(sentence))
            assert named <= {found.best, *found.ties, *claimed}
            if len(claimed) <= 3:
                assert claimed <= named


def test_runs_that_were_timed_on_other_devices_are_named(outputs: Path) -> None:
    points = [put(outputs, sweep_point(name), chrf=BASE) for name in ("greedy", "top_p", "top_k", "old")]
    places = ("AMD EPYC with 1 thread", "AMD EPYC with 2 threads", "AMD EPYC with 1 thread")
    for point, place in zip(points, places, strict=False):
        StoredPoint(outputs / "points" / point.point_id).write_parts({"timed_on": place})
    sentence = of(answer(outputs, points), "Latency")
    assert sentence.text() == (
        "not all runs were timed on the same: m/greedy and m/top_k on AMD EPYC with 1 thread; "
        "m/top_p on AMD EPYC with 2 threads; differences in latency include that."
    )
    StoredPoint(outputs / "points" / points[1].point_id).write_parts({"timed_on": places[0]})
    assert "Latency" not in [one.title for one in answer(outputs, points).sentences]


def test_latency_that_was_measured_beside_other_jobs_says_so(outputs: Path) -> None:
    points = [put(outputs, sweep_point(name), chrf=BASE) for name in ("greedy", "top_p")]
    for point in points:
        parts = {"timed_on": "AMD EPYC with 1 thread, beside other jobs"}
        StoredPoint(outputs / "points" / point.point_id).write_parts(parts)
    sentence = of(answer(outputs, points), "Latency")
    assert "on nodes that other jobs may have used at the same time" in sentence.text()
    StoredPoint(outputs / "points" / points[1].point_id).write_parts({"timed_on": "AMD EPYC with 2 threads"})
    sentence = of(answer(outputs, points), "Latency")
    assert "m/greedy on AMD EPYC with 1 thread, beside other jobs" in sentence.text()
