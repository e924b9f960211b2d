"""Prompt lookup proposes what transformers' generator of candidates does."""

from __future__ import annotations

import random

import torch
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from harness.decoding.prompt_lookup import look_up


def test_worked_example() -> None:
    ids = [1, 2, 3, 9, 2, 3, 4, 2, 3]
    assert look_up(ids, 2, 4) == [9, 2, 3, 4]  # after the first `2 3`
    assert look_up(ids, 2, 1) == [9]
    assert look_up([5, 6, 7], 2, 4) == []
    assert look_up([5, 5], 2, 4) == [5]  # itself, one token earlier
    assert look_up([5], 2, 4) == []


def test_it_equals_the_stock_generator() -> None:
    rng = random.Random(0)
    for _ in range(400):
        ids = [rng.randrange(5) for _ in range(rng.randrange(2, 24))]
        largest, count = rng.randrange(1, 5), rng.randrange(1, 7)
        stock = PromptLookupCandidateGenerator(
            num_output_tokens=count, max_matching_ngram_size=largest, max_length=1000
        )
        candidates, _ = stock.get_candidates(torch.tensor([ids]))
        assert look_up(ids, largest, count) == candidates[0, len(ids) :].tolist(), (ids, largest, count)
