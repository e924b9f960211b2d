"""Simulated sweeps: how often comparisons and trends err, what they find, and whether advice holds.

`python -m tests.benchmarks.significance [SECTION ...] [SWEEPS]`, the sections being the functions below.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np

from harness.analysis.best_points import best_set
from harness.analysis.metric_catalog import Metric
from harness.analysis.prompt_values import PromptValues
from harness.analysis.statistics import simultaneous
from harness.analysis.statistics.contrasts import curvature, slope
from harness.analysis.statistics.sample_size import needed_prompts
from harness.analysis.statistics.simultaneous import LEVEL, simultaneous_intervals

COMPARISONS, METRICS = 7, 20

PROMPTS = (30, 8, 16, 20, 60)

Draw = Callable[[np.random.Generator, int], np.ndarray]


def _normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=(COMPARISONS + 1, n))


def _exchangeable(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.lognormal(0, 1, (COMPARISONS + 1, n))


def _skewed(sigma: float) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        points = 0.1 * rng.normal(size=(COMPARISONS + 1, n))
        points[1:] += rng.lognormal(0, sigma, (COMPARISONS, n)) - np.exp(sigma**2 / 2)
        return points

    return draw


def _sparse(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=(COMPARISONS + 1, n)) * (rng.random((COMPARISONS + 1, n)) < 0.1)


def _binary(rng: np.random.Generator, n: int) -> np.ndarray:
    return (rng.random((COMPARISONS + 1, n)) < 0.3).astype(float)


CASES: dict[str, Draw] = {
    "normal": _normal,
    "exchangeable lognormal": _exchangeable,
    "skewed, sigma 0.5": _skewed(0.5),
    "skewed, sigma 1": _skewed(1.0),
    "sparse": _sparse,
    "binary": _binary,
}
"""Points whose true means are equal, by what their prompts' values look like; the first is the baseline."""


def family_error(draw: Draw, n: int, sweeps: int, shares: bool = False) -> float:
    """Return how often any of the comparisons, whose true means are 0, is found different."""
    rng = np.random.default_rng(n)
    wrong = 0
    for _ in range(sweeps):
        points = draw(rng, n)
        wrong += bool((simultaneous_intervals(points[1:] - points[0], shares).p < LEVEL).any())
    return wrong / sweeps


def family_coverage(draw: Draw, n: int, sweeps: int) -> float:
    """Return how often all intervals cover their true means, which lie up to a standard deviation apart."""
    rng = np.random.default_rng(n)
    truth = np.linspace(-1, 1, COMPARISONS)[:, None]
    covered = 0
    for _ in range(sweeps):
        points = draw(rng, n)
        found = simultaneous_intervals(points[1:] - points[0] + truth)
        covered += bool(((found.low <= truth[:, 0]) & (truth[:, 0] <= found.high)).all())
    return covered / sweeps


def holm_found(differences: np.ndarray) -> np.ndarray:
    """Return which of these (..., n) differences Holm's correction of their t tests finds."""
    from scipy.stats import ttest_1samp

    p = ttest_1samp(differences, 0, axis=-1).pvalue
    order = np.argsort(p, axis=None)
    passed = p.ravel()[order] <= LEVEL / np.arange(p.size, 0, -1)
    found = np.zeros(p.size, dtype=bool)
    found[order[: p.size if passed.all() else int(np.argmin(passed))]] = True
    return found.reshape(p.shape)


def found_share(n: int, effect: float, sweeps: int) -> float:
    """Return the share of the differences of this size (in their standard deviations) that max-t finds."""
    rng = np.random.default_rng(n)
    found = 0.0
    for _ in range(sweeps):
        points = rng.normal(0, 0.5**0.5, (COMPARISONS + 1, n))
        found += float((simultaneous_intervals(points[1:] - points[0] + effect).p < LEVEL).mean())
    return found / sweeps


def error(sweeps: int) -> None:
    """Print the family-wise error by number of prompts and case."""
    for n in PROMPTS:
        for name, draw in CASES.items():
            print(
                f"{n} prompts, {name}: error {family_error(draw, n, sweeps, name == 'binary'):.2%}",
                flush=True,
            )


def coverage(sweeps: int) -> None:
    """Print the simultaneous coverage of intervals where the true means differ."""
    for n in PROMPTS:
        for name, draw in CASES.items():
            if name != "binary":
                print(f"{n} prompts, {name}: coverage {family_coverage(draw, n, sweeps):.2%}", flush=True)


def power(sweeps: int) -> None:
    """Print what max-t finds, and what Holm finds over all metrics, the others without a difference."""
    rng = np.random.default_rng(0)
    ours = theirs = 0.0
    for _ in range(sweeps):
        points = rng.normal(0, 0.5**0.5, (METRICS, COMPARISONS + 1, 30))
        differences = points[:, 1:] - points[:, :1]
        differences[0] += 0.6
        ours += float((simultaneous_intervals(differences[0]).p < LEVEL).mean())
        theirs += float(holm_found(differences)[0].mean())
    print(f"30 prompts, effect 0.6: {ours / sweeps:.1%}, Holm {theirs / sweeps:.1%}: x{ours / theirs:.2f}")


def advice(sweeps: int) -> None:
    """Print the advised number of prompts beside the least one that finds 80% in simulations."""
    for effect in (0.4, 0.5, 0.7, 1.0):
        advised = needed_prompts(effect, 1.0, COMPARISONS)
        assert advised is not None
        tried = [round(advised * share) for share in (0.65, 0.75, 0.85, 0.95, 1.05, 1.15)]
        found = [found_share(n, effect, sweeps) for n in tried]
        needed = float(np.interp(0.8, found, tried))
        print(f"effect {effect}: {advised} advised, {needed:.1f} needed: x{advised / needed:.2f}", flush=True)


def trends(sweeps: int) -> None:
    """Print how often a slope or bend is found over values that have none, and how often one that is there.

    Prompts differ by as much as their noise; the slope is 0.6 standard deviations of the prompts' slopes.
    """
    from scipy.stats import ttest_1samp

    x = np.array([0.2, 0.5, 0.8, 1.1])
    bend = curvature(x)
    assert bend is not None
    rng = np.random.default_rng(0)
    for n in (30, 8, 16, 60):
        for name, size in (("normal", 0.0), ("lognormal", 1.0)):
            wrong = ours = alone = 0
            for _ in range(sweeps):
                noise = rng.lognormal(0, size, (len(x), n)) if size else rng.normal(size=(len(x), n))
                table = rng.normal(size=n) + noise
                slopes, bends = slope(x) @ table, bend @ table
                wrong += bool((simultaneous_intervals(np.stack([slopes, bends])).p < LEVEL).any())
                moved = slopes + 0.6 * noise.std() * float(np.sqrt(slope(x) @ slope(x)))
                ours += bool(simultaneous_intervals(np.stack([moved, bends])).p[0] < LEVEL)
                alone += bool(ttest_1samp(moved, 0).pvalue < LEVEL)
            print(
                f"{n} prompts, {name}: trend error {wrong / sweeps:.2%}, "
                f"found {ours / sweeps:.1%}, t test of the slope alone {alone / sweeps:.1%}",
                flush=True,
            )


def answers(sweeps: int) -> None:
    """Print how often an answer calls any of 8 equal points worse: by all pairs, and by the baseline's."""
    metric = Metric("m", "m", "", better="higher", per_sample="m")
    labels = [str(i) for i in range(COMPARISONS + 1)]
    rows = {label: i for i, label in enumerate(labels)}
    for n in PROMPTS:
        rng = np.random.default_rng(n)
        pairs = either = 0
        for _ in range(sweeps):
            points = rng.normal(size=(COMPARISONS + 1, n))
            keys = tuple((str(i), None) for i in range(n))
            values = PromptValues(keys, rows, np.isfinite(points), {"m": points})
            best = best_set(values, metric, labels, False)
            assert best is not None
            by_baseline = simultaneous_intervals(points[1:] - points[0]).p < LEVEL
            pairs += bool(best.worse)
            top = int(best.label)
            either += bool(best.worse) or bool(by_baseline[top - 1] if top else by_baseline.any())
        print(
            f"{n} prompts: all pairs {pairs / sweeps:.2%}, with the baseline {either / sweeps:.2%}",
            flush=True,
        )


def floors(sweeps: int) -> None:
    """Print the error under several floors of a resample's standard error."""
    kept = simultaneous.LEAST_ERROR
    for floor in (0.1, 0.3, 0.5):
        simultaneous.LEAST_ERROR = {0: floor}
        for name in ("normal", "skewed, sigma 0.5", "skewed, sigma 1"):
            errors = [f"{n}: {family_error(CASES[name], n, sweeps):.1%}" for n in (6, 8, 12, 20, 30)]
            print(f"floor {floor}, {name}: {', '.join(errors)}", flush=True)
    simultaneous.LEAST_ERROR = kept


SECTIONS = {f.__name__: f for f in (power, advice, error, coverage, trends, answers, floors)}


def main(arguments: Sequence[str] = ()) -> None:
    """Run the named sections, all but the floors where none is named."""
    names = [a for a in arguments if a in SECTIONS] or [name for name in SECTIONS if name != "floors"]
    sweeps = next((int(a) for a in arguments if a.isdigit()), 400)
    for name in names:
        SECTIONS[name](sweeps)


if __name__ == "__main__":
    main(sys.argv[1:])
