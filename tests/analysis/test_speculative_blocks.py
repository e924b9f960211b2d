"""The arithmetic of speculative decoding, on numbers worked out by hand."""

from __future__ import annotations

import random
from math import sqrt

import numpy as np
import pytest

from harness.analysis.speculation_times import LoopCosts, differing, loop_costs, timed_draft
from harness.analysis.speculative_blocks import (
    Pass,
    SpeculativeText,
    acceptance,
    block_length,
    break_even_cost,
    expected_tokens,
    model_proposals,
    predicted_speedup,
    replay,
)


def test_tokens_per_forward_pass_of_independent_proposals() -> None:
    assert expected_tokens(0.5, 5) == pytest.approx(1.96875)
    assert expected_tokens(0.81, 5) == pytest.approx(3.776687, abs=1e-6)
    assert expected_tokens(1.0, 5) == 6
    assert expected_tokens(0.0, 5) == 1


def test_the_formula_is_what_replays_of_coins_give() -> None:
    rng = random.Random(1)
    agreed = [rng.random() < 0.7 for _ in range(60_000)]
    tokens = [0] * len(agreed)
    proposals = model_proposals([0 if one else 1 for one in agreed])
    found = block_length(4, [(len(tokens), replay(tokens, proposals, 4, 10**6))])
    assert found.tokens_per_forward == pytest.approx(expected_tokens(0.7, 4), rel=0.01)


def test_speed_up_and_break_even() -> None:
    assert predicted_speedup(3.0, 5, 0.1) == pytest.approx(2.0)
    assert predicted_speedup(3.0, 5, 0.1, verify=1.5) == pytest.approx(1.5)
    cost = break_even_cost(3.0, 5)
    assert cost == pytest.approx(0.4)
    assert predicted_speedup(3.0, 5, cost) == pytest.approx(1.0)


def test_a_text_is_replayed_block_by_block() -> None:
    #         0  1  2  3  4  5  6  7, and the draft is wrong at 2 and 3
    tokens = [5, 6, 7, 8, 9, 1, 2, 3]
    along = [5, 6, 0, 0, 9, 1, 2, 3]
    passes = replay(tokens, model_proposals(along), 3, budget=100)
    # 5 6 | then 7 by the target; then 8 by the target; then 9 1 2 and 3; the text is over
    assert passes == [Pass(3, 2), Pass(3, 0), Pass(3, 3)]
    found = block_length(3, [(8, passes)])
    assert (found.forwards, found.proposed, found.accepted) == (3, 9, 5)
    assert found.proposed_at == (3, 3, 3)
    assert found.accepted_at == (2, 2, 1)
    assert found.tokens_per_forward == pytest.approx(8 / 3)


def test_the_last_token_of_the_budget_is_not_proposed() -> None:
    tokens = [1, 2, 3, 4, 5, 6, 7]
    whole = replay(tokens, model_proposals(tokens), 3, budget=7)
    assert whole == [Pass(3, 3), Pass(2, 2)]
    # A text that ended before it: the block goes beyond its end, as the loop's does.
    ended = replay(tokens[:5], model_proposals(tokens[:5]), 3, budget=7)
    assert ended == [Pass(3, 3), Pass(2, 1)]
    assert replay([1], model_proposals([1]), 3, budget=1) == [Pass(0, 0)]


def test_acceptance_and_its_errors() -> None:
    agreed = [np.array([True, False]), np.array([True, True])]
    coupling = [np.array([0.5, 0.5]), np.array([0.9, 0.8])]
    shared = [np.array([0.6, 0.6]), np.array([1.0, 0.8])]
    found = acceptance(agreed, coupling, shared)
    assert found is not None
    assert (found.positions, found.observed) == (4, 0.75)
    assert found.coupling.mean == pytest.approx(0.675)
    assert found.coupling.se == pytest.approx(sqrt(0.25 + 0.25 + 0.09 + 0.16) / 4)
    assert found.overlap.mean == pytest.approx(0.75)
    assert found.overlap.se == pytest.approx(sqrt(2 * 0.3**2) / 4)  # texts are 0.3 below and above
    assert acceptance([np.array([])], [np.array([])], [np.array([])]) is None


def run(tokens: list[int], passes: list[Pass], seconds: float, drafting: float = 0.0) -> SpeculativeText:
    return SpeculativeText(tuple(tokens), tuple(passes), seconds, drafting)


def test_what_a_loop_took() -> None:
    plain = [run([1, 2, 3, 4], [Pass(0, 0)] * 4, 4.0)]
    fast = [run([1, 2, 3, 4], [Pass(3, 3)], 2.5, 1.5)]
    slow = [run([1, 2, 9, 4], [Pass(3, 3)], 3.5, 1.5)]
    costs = loop_costs(1.0, 3, fast)
    assert (costs.cost, costs.verify) == (0.5, 1.0)
    found = timed_draft(3, [[1, 2, 3, 4]], [(plain, fast), (plain, slow)])
    # Ratios 1.6 and 1.142857, logs 0.470004 and 0.133531; t of one degree of freedom is 12.7062.
    assert found["speedup"] == pytest.approx(1.352247, abs=1e-6)
    assert found["speedup_interval"] == pytest.approx([0.15946, 11.4673], rel=1e-3)
    assert timed_draft(3, [[1, 2, 3, 4]], [(plain, fast)])["speedup_interval"] is None
    assert found["draft_share"] == pytest.approx(0.5)
    assert (found["cost"], found["verify"]) == (pytest.approx(0.5), pytest.approx(1.5))
    assert (found["tokens"], found["forwards"], found["texts"], found["differing"]) == (4, 1, 1, 1)
    assert differing([1, 2, 3], [1, 5]) == 2


def test_the_block_length_that_is_timed_promises_most() -> None:
    # Every proposal is accepted: long blocks pay for a cheap draft, short ones for a dear one.
    lengths = [block_length(k, [(60, replay([0] * 60, model_proposals([0] * 60), k, 61))]) for k in (1, 2, 5)]
    assert LoopCosts(0.1, 1.0, 2).best_of(lengths) == 5
    assert LoopCosts(1.5, 1.0, 2).best_of(lengths) == 1
    assert LoopCosts(0.1, 1.0, 2).speedup(lengths[1]) == pytest.approx(3 / 1.2)
    # A forward pass that grows with its block: 1 + 0.5 * 5 for 5 tokens.
    assert LoopCosts(0.0, 2.0, 2).speedup(lengths[2]) == pytest.approx(6 / 3.5)
