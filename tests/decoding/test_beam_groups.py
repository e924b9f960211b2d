"""The arithmetic of diverse beam search on numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import torch

from harness.decoding.beam_groups import in_turn, penalised
from harness.decoding.outputs import BestOutputs

LOG_P = torch.tensor([[[0.5, 0.3, 0.2]]], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("chosen", "penalty", "scores", "best"),
    [
        ([], 0.5, [-0.693147, -1.203973, -1.609438], 0),
        ([0], 0.5, [-1.193147, -1.203973, -1.609438], 0),
        ([0], 1.0, [-1.693147, -1.203973, -1.609438], 1),
        ([0, 1, 0], 0.5, [-1.693147, -1.703973, -1.609438], 2),
    ],
)
def test_each_earlier_choice_of_a_token_costs_it_the_penalty(
    chosen: list[int], penalty: float, scores: list[float], best: int
) -> None:
    found = penalised(LOG_P, [chosen], penalty)
    assert found[0, 0].tolist() == pytest.approx(scores, abs=1e-6)
    assert int(found.argmax()) == best


def test_prompts_have_their_own_choices_and_beams_of_a_group_share_them() -> None:
    found = penalised(LOG_P.expand(2, 2, 3), [[0], [2, 2]], 1.0)
    expected = LOG_P[0, 0] - torch.tensor([[[1, 0, 0]], [[0, 0, 2]]])
    assert torch.equal(found, expected.expand(2, 2, 3))


def outputs(
    size: int = 2, power: float = 1.0, early: Literal[True, False, "never"] = False, longest: int = 8
) -> BestOutputs:
    return BestOutputs(size, power, early, longest)


def test_scores_are_divided_by_the_length_and_the_best_are_kept() -> None:
    best = outputs(power=2.0)
    best.add((1, 2), "eos", -2.0)
    best.add((3, 4, 5, 6), "eos", -4.0)
    best.add((7,), "length", -1.0)
    assert [(one.tokens, one.score) for one in best.outputs] == [((3, 4, 5, 6), -0.25), ((1, 2), -0.5)]


def test_of_equal_outputs_the_first_stays() -> None:
    best = outputs(size=1)
    best.add((1,), "eos", -1.0)
    best.add((2,), "eos", -1.0)
    assert best.outputs[0].tokens == (1,)


@pytest.mark.parametrize(
    ("settings", "total", "done"),
    [
        ({"early": True}, 0.0, True),
        ({}, -3.9, False),  # -3.9 / 4 > -1
        ({}, -4.1, True),
        ({"early": "never"}, -7.9, False),  # -7.9 / 8 > -1
        ({"early": "never"}, -8.1, True),
        ({"early": "never", "power": -1.0}, -0.24, False),  # -0.24 * 4 > -1
        ({"early": "never", "power": -1.0}, -0.26, True),
    ],
)
def test_when_no_open_beam_can_do_better(settings: dict[str, Any], total: float, done: bool) -> None:
    """The worst of two outputs has the score -1; open beams have 4 tokens, at most 8."""
    best = outputs(**settings)
    assert not best.complete(-math.inf, 4), "outputs are lacking"
    best.add((1,), "eos", -1.0)
    best.add((2,), "eos", -0.5)
    assert best.complete(total, 4) == done


def test_outputs_take_turns_by_group() -> None:
    groups = [outputs(size=3) for _ in range(3)]
    for group, totals in zip(groups, ([-1, -2, -3], [-6], [-0.5, -7]), strict=True):
        for total in totals:
            group.add((len(group.outputs),), "eos", float(total))
    assert [one.score for one in in_turn(groups)] == [-0.5, -1, -6, -2, -7, -3]
    assert list(in_turn([])) == []
