"""How often simultaneous comparisons err, and what they find: simulated sweeps of 8 points."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from harness.analysis.statistics import simultaneous
from harness.analysis.statistics.sample_size import needed_prompts
from harness.analysis.statistics.simultaneous import LEVEL, simultaneous_intervals

COMPARISONS, METRICS = 7, 20

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


def family_error(draw: Draw, n: int, sweeps: int, shares: bool = False) -> float:
    """Return how often any of the comparisons, whose true means are 0, is found different."""
    rng = np.random.default_rng(n)
    wrong = 0
    for _ in range(sweeps):
        points = draw(rng, n)
        wrong += bool((simultaneous_intervals(points[1:] - points[0], shares).p < LEVEL).any())
    return wrong / sweeps


def power(n: int, effect: float, sweeps: int) -> tuple[float, float]:
    """Return the share of true differences (in standard deviations) found by max-t, and by Holm over all.

    Holm's other tests are of metrics without a difference.
    """
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(0)
    ours = theirs = 0.0
    for _ in range(sweeps):
        points = rng.normal(0, 0.5**0.5, (METRICS, COMPARISONS + 1, n))
        differences = points[:, 1:] - points[:, :1]
        differences[0] += effect
        ours += float((simultaneous_intervals(differences[0]).p < LEVEL).mean())
        p = ttest_1samp(differences, 0, axis=-1).pvalue.ravel()
        order = np.argsort(p)
        passed = p[order] <= LEVEL / np.arange(len(p), 0, -1)
        rejected = np.zeros(len(p), dtype=bool)
        rejected[order[: len(p) if passed.all() else int(np.argmin(passed))]] = True
        theirs += float(rejected[:COMPARISONS].mean())
    return ours / sweeps, theirs / sweeps


def advised_power(effect: float, sweeps: int) -> tuple[int, float]:
    """Return the advised number of prompts, and the share of the differences that it finds; 0.8 is meant."""
    needed = needed_prompts(effect, 1.0, COMPARISONS)
    assert needed is not None
    return needed, power(needed, effect, sweeps)[0]


def least_errors(sweeps: int) -> None:
    """Print the error and width under several floors of a resample's standard error."""
    kept = simultaneous.LEAST_ERROR
    for floor in (0.1, 0.2, 0.3):
        simultaneous.LEAST_ERROR = floor
        for name in ("normal", "skewed, sigma 0.5", "skewed, sigma 1"):
            errors = [f"{n}: {family_error(CASES[name], n, sweeps):.1%}" for n in (6, 8, 12, 20, 30)]
            print(f"floor {floor}, {name}: {', '.join(errors)}", flush=True)
    simultaneous.LEAST_ERROR = kept


def main(sweeps: int = 400) -> None:
    """Print family-wise errors, power and whether the advised number of prompts is enough."""
    ours, theirs = power(30, 0.6, sweeps)
    print(f"power at 30 prompts, effect 0.6: {ours:.1%}, Holm over all {theirs:.1%}: x{ours / theirs:.2f}")
    for effect in (0.5, 1.0):
        needed, found = advised_power(effect, sweeps)
        print(f"effect {effect}: {needed} prompts advised, {found:.1%} found (80% meant)", flush=True)
    for n in (30, 8, 16, 20, 60):
        for name, draw in CASES.items():
            print(
                f"{n} prompts, {name}: error {family_error(draw, n, sweeps, name == 'binary'):.1%}",
                flush=True,
            )


if __name__ == "__main__":
    least_errors(int(sys.argv[2])) if sys.argv[1:2] == ["floors"] else main(*map(int, sys.argv[1:]))
