"""What a truncation left, packed: the same tokens, the same draws, the same record as of all scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.decoding.kept import few_kept
from harness.decoding.luck import draw, luck_key
from harness.engine.recorder import Recorder

V = 2000


def cut(counts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(raw logits, scores of which each row keeps so many)."""
    generator = torch.Generator().manual_seed(len(counts))
    logits = torch.randn(len(counts), V, generator=generator) * 3
    scores = torch.full_like(logits, float("-inf"))
    for row, count in enumerate(counts):
        stays = torch.randperm(V, generator=generator)[:count]
        scores[row, stays] = logits[row, stays] / 0.7
    return logits, scores


def test_what_is_packed_is_what_is_left_in_the_order_of_ids() -> None:
    _, scores = cut([1, 30, 7, 100])
    for some in (scores, torch.nn.functional.pad(scores, (0, 1))[:, :V], scores.T.contiguous().T):
        kept = few_kept(some)
        assert kept is not None
        for row, count in enumerate([1, 30, 7, 100]):
            left = scores[row].isfinite().nonzero()[:, 0]
            assert kept.counts[row] == count
            assert torch.equal(kept.tokens[row, :count], left)
            assert torch.equal(kept.scores[row, :count], scores[row, left])
            assert not kept.scores[row, count:].isfinite().any()
    assert few_kept(cut([V, 1])[1]) is None
    assert few_kept(cut([V // 8] * 3)[1]) is None


@pytest.mark.parametrize("step", [0, 5])
def test_draws_and_records_are_those_of_all_scores(step: int) -> None:
    logits, scores = cut([1, 30, 7, 100, 2, 60])
    kept = few_kept(scores)
    assert kept is not None
    # Two texts stand at the third row.
    places = torch.tensor([0, 1, 2, 2, 3, 4, 5])
    keys = torch.tensor([luck_key(0, f"p{text}", 0) for text in range(7)])
    tokens = draw(scores[places], keys, step)
    assert torch.equal(draw(scores[places], keys, step, kept.rows(places)), tokens)
    recorded = []
    for packed in (None, kept):
        recorder = Recorder(5)
        seen = recorder.look(logits)
        recorder.observe(range(7), seen, places, tokens, scores, places, packed)
        recorder.end_step(seen)
        done = recorder.finish()
        recorded.append([done.steps(text, 1, 5) for text in range(7)])
    for one, other in zip(*recorded, strict=True):
        for name, values in vars(one).items():
            np.testing.assert_allclose(values, getattr(other, name), atol=1e-5, err_msg=name)
