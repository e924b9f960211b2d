"""The arithmetic of contrastive search on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from harness.decoding.contrastive import candidates, contrastive_scores, directions, largest_similarity

P = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
CONTEXT = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]], dtype=torch.float64)
CANDIDATES = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-0.6, 0.8]]], dtype=torch.float64)
EVERY = torch.tensor([[True, True]])


def test_the_largest_cosine_with_what_was_there_before() -> None:
    found = largest_similarity(CONTEXT, EVERY, CANDIDATES)
    assert found[0].tolist() == pytest.approx([1.0, 0.8, 0.28])


@pytest.mark.parametrize(
    ("alpha", "scores", "chosen"),
    [(0.0, [0.5, 0.3, 0.2], 0), (0.2, [0.2, 0.08, 0.104], 0), (0.6, [-0.4, -0.36, -0.088], 2)],
)
def test_scores(alpha: float, scores: list[float], chosen: int) -> None:
    found = contrastive_scores(P, largest_similarity(CONTEXT, EVERY, CANDIDATES), alpha)
    assert found[0].tolist() == pytest.approx(scores)
    assert int(found.argmax()) == chosen


def test_padding_is_like_nothing() -> None:
    """A padded position that is exactly a candidate's direction changes nothing."""
    padded = torch.cat([CANDIDATES[:, 2:], CONTEXT], dim=1)
    present = torch.tensor([[False, True, True]])
    found = largest_similarity(padded, present, CANDIDATES)
    assert found[0].tolist() == pytest.approx([1.0, 0.8, 0.28])


def test_directions_have_length_one_and_zero_stays() -> None:
    found = directions(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert found.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
    assert directions(torch.tensor([[256.0, 256.0]], dtype=torch.float16)).dtype == torch.float32


def test_candidates_are_the_likeliest_in_order_at_most_all() -> None:
    logits = torch.tensor([[0.1, 3.0, -math.inf, 2.0]])
    assert candidates(logits, 2).tokens.tolist() == [[1, 3]]
    assert candidates(logits, 9).tokens.tolist() == [[1, 3, 0, 2]]


def test_of_equal_scores_the_likelier_is_chosen() -> None:
    """0.5 * 0.6 - 0.5 * 0.4 = 0.5 * 0.4 - 0.5 * 0.2: the first candidate is the likelier one."""
    scores = contrastive_scores(torch.tensor([[0.75, 0.5]]), torch.tensor([[0.5, 0.25]]), 0.5)
    assert scores[0, 0] == scores[0, 1]
    assert int(scores.argmax(-1)) == 0
