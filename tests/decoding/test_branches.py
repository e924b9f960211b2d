"""Which token an output begins with, of small distributions."""

from __future__ import annotations

import math

import pytest
import torch

from harness.decoding.branches import tokens_of_rank
from harness.errors import HarnessError

LOGITS = torch.tensor([[0.5, 2.0, -math.inf, 1.0], [3.0, 1.0, 3.0, 3.0]])


def test_the_token_of_a_rank() -> None:
    rows = LOGITS[[0, 0, 0]]
    assert tokens_of_rank(rows, [2, 0, 1]).tolist() == [0, 1, 3]


def test_of_equal_tokens_the_first_comes_first_as_in_greedy_decoding() -> None:
    rows = LOGITS[[1, 1, 1, 1]]
    assert tokens_of_rank(rows, [0, 1, 2, 3]).tolist() == [0, 2, 3, 1]
    assert int(tokens_of_rank(LOGITS[1:], [0])) == int(LOGITS[1].argmax())


def test_a_removed_token_begins_nothing() -> None:
    with pytest.raises(HarnessError) as caught:
        tokens_of_rank(LOGITS[[0, 0]], [0, 3])
    problem = "sample 3 has no first token, the strategy leaves 3; set generation.samples=3"
    assert str(caught.value) == f"decoding.cot_branches: {problem}"
