"""The selectors, on numbers worked out by hand, and their choices from fewer samples by enumeration."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from harness.analysis.metrics.reference_metrics import chrf
from harness.analysis.selection.over_samples import best_possible, expected_scores, sizes_up_to, subsets_of
from harness.analysis.selection.pass_at_k import pass_at_k
from harness.analysis.selection.prompt_candidates import Candidates
from harness.analysis.selection.selectors import BY_NAME, mbr_vote
from harness.config.selector_names import DESCRIPTIONS, SELECTORS

NAN = float("nan")


def candidates(outputs: Sequence[str], **columns: Any) -> Candidates:
    """Return samples of a prompt; what is not given is not known."""
    names = ("mean_logprob", "sum_logprob", "self_certainty", "valid")
    numbers = {name: np.array(columns.get(name, [NAN] * len(outputs)), float) for name in names}
    answers = tuple(columns.get("answers", outputs))
    return Candidates(np.arange(len(outputs)), tuple(outputs), answers, **numbers)


def test_every_name_of_the_config_has_a_selector() -> None:
    assert tuple(BY_NAME) == SELECTORS == tuple(DESCRIPTIONS)


@pytest.mark.parametrize(
    ("name", "column", "values", "chosen"),
    [
        ("best_of", "mean_logprob", [-2, -1, -3], 1),
        ("best_of", "mean_logprob", [-2, -1, -1], 1),  # ties: the lower sample number
        ("best_of", "mean_logprob", [NAN, -9, NAN], 1),
        ("best_of_sum", "sum_logprob", [-20, -30, -10], 2),
        ("self_certainty", "self_certainty", [1.5, 2.5, 2.0], 1),
        ("first_valid", "valid", [0, 1, 1], 1),
        ("first_valid", "valid", [0, 0, 0], 0),
    ],
)
def test_rankings(name: str, column: str, values: Sequence[float], chosen: int) -> None:
    assert BY_NAME[name].choose(candidates("abc", **{column: values})) == chosen


def test_what_is_not_known_is_lacking() -> None:
    unknown = candidates("abc")
    lacking = [name for name, selector in BY_NAME.items() if selector.lacks(unknown)]
    assert lacking == ["best_of", "best_of_sum", "self_certainty", "first_valid"]


@pytest.mark.parametrize(
    ("answers", "logprobs", "chosen"),
    [
        ("abbca", [-1, -9, -9, 0, -9], 0),  # two each: a has exp(-1) + exp(-9)
        ("abbca", [-9, -1, -9, 0, -9], 1),
        ("cabab", [-1, -2, -2, -2, -2], 1),  # equally likely: what occurs first
        ("abcc", [-1, -1, -99, -99], 2),  # most votes, however unlikely
        ("ab", [NAN, NAN], 0),
        ("abab", [-800, -900, -900, -801], 0),  # probabilities that no float holds
    ],
)
def test_majority(answers: str, logprobs: Sequence[float], chosen: int) -> None:
    samples = candidates(answers, answers=tuple(answers), sum_logprob=logprobs)
    assert BY_NAME["majority"].choose(samples) == chosen


def test_mbr_of_worked_numbers() -> None:
    samples = candidates(["the fox sat by the fire", "the fox sat by a fire", "a dog barked"])
    assert samples.similarity.mean(axis=1) == pytest.approx([59.5355, 58.2430, 37.2794], abs=1e-4)
    others = (samples.similarity.sum(axis=1) - 100) / 2
    assert others == pytest.approx([39.3032, 37.3645, 5.9190], abs=1e-4)
    assert BY_NAME["mbr"].choose(samples) == 0
    assert BY_NAME["mbr"].choose(candidates(["x", "b a", "b a"])) == 1  # equal texts: the lower number


def _chosen_by_hand(name: str, samples: Candidates, subset: tuple[int, ...]) -> int:
    """Return what a selector takes of a subset, written down again from its definition."""
    if name == "mbr":
        means = {
            i: np.mean([chrf(samples.outputs[i], samples.outputs[j]) for j in subset]).round(6)
            for i in subset
        }
        return max(subset, key=lambda i: (means[i], -i))
    if name == "majority":
        groups: dict[str, list[int]] = {}
        for i in subset:
            groups.setdefault(samples.answers[i], []).append(i)
        weight = {a: np.exp(samples.sum_logprob[some]).sum() for a, some in groups.items()}
        best = max(groups, key=lambda a: (len(groups[a]), weight[a], -groups[a][0]))
        return groups[best][0]
    column = {"best_of": "mean_logprob", "best_of_sum": "sum_logprob", "first_valid": "valid"}.get(name, name)
    return max(subset, key=lambda i: (getattr(samples, column)[i], -i))


@pytest.mark.parametrize("name", list(BY_NAME))
def test_expected_scores_are_means_over_all_subsets(name: str) -> None:
    rng = np.random.default_rng(3)
    texts = ["a cat sat", "a cat ran", "the dog", "a cat sat", "one", "dogs bark at one"]
    samples = candidates(
        texts, answers=tuple("abcabb"), mean_logprob=-rng.random(6), sum_logprob=[-3, -2, -2, -3, -1, -2.5],
        self_certainty=rng.random(6), valid=[0, 1, 0, 1, 1, 0],
    )  # fmt: skip
    scores = rng.random(6)
    expected = [
        np.mean([scores[_chosen_by_hand(name, samples, subset)] for subset in combinations(range(6), size)])
        for size in range(1, 7)
    ]
    found = expected_scores(BY_NAME[name], samples, scores, range(1, 7))
    assert found == pytest.approx(expected, abs=1e-12)
    assert found[-1] == scores[BY_NAME[name].choose(samples)]


def test_the_best_possible_of_right_and_wrong_is_pass_at_k() -> None:
    scores = np.array([0, 1, 0, 1, 1, 0, 0.0])
    assert best_possible(scores, True, range(1, 8)) == pytest.approx(pass_at_k(7, 3), abs=1e-12)
    lower = best_possible(np.array([3.0, 1.0, 2.0]), False, (1, 2, 3))
    assert lower == pytest.approx([2, 4 / 3, 1])


def test_random_subsets_are_seeded_and_near_all_of_them() -> None:
    members = subsets_of(16, 5)
    assert members.shape == (200, 16)
    assert (members.sum(axis=1) == 5).all()
    assert (members == subsets_of(16, 5)).all()
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["a", "cat", "dog", "sat"], 5)) for _ in range(12)]
    samples, scores = candidates(texts), rng.random(12)
    every = np.array([[i in chosen for i in range(12)] for chosen in combinations(range(12), 6)])
    exact = scores[mbr_vote(samples, every)].mean()
    drawn = scores[mbr_vote(samples, subsets_of(12, 6))]
    assert abs(drawn.mean() - exact) < 4 * drawn.std() / 200**0.5


def test_sizes_of_many_samples_are_few() -> None:
    assert sizes_up_to(5) == (1, 2, 3, 4, 5)
    many = sizes_up_to(1000)
    assert (many[0], many[-1]) == (1, 1000)
    assert len(many) <= 25
