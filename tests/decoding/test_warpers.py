"""The quick truncations keep what the stock ones keep, over random draws, ties and edges."""

from __future__ import annotations

import pytest
import torch
from transformers.generation import logits_process as stock

from harness.decoding.warpers import QuickTopP, QuickTypical, quick

V = 5000


def draws(seed: int) -> torch.Tensor:
    """Rows from nearly sure to nearly flat, some with tokens that were cut before."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([0.01, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 20.0])[:, None]
    scores = torch.randn(8, V, generator=generator) * spread
    scores[::3, ::7] = float("-inf")
    return scores


def same(quick_scores: torch.Tensor, stock_scores: torch.Tensor, scores: torch.Tensor) -> None:
    """Equal, but for tokens at the border, whose mass is within rounding of the threshold."""
    differs = quick_scores.isfinite() != stock_scores.isfinite()
    assert differs.sum(-1).max() <= 1
    assert torch.equal(quick_scores[quick_scores.isfinite()], scores[quick_scores.isfinite()])
    assert int(differs.sum()) <= 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.99, 0.9999])
def test_over_random_draws(seed: int, share: float) -> None:
    scores = draws(seed)
    for mine, theirs in (
        (QuickTopP(stock.TopPLogitsWarper(share)), stock.TopPLogitsWarper(share)),
        (QuickTypical(stock.TypicalLogitsWarper(share)), stock.TypicalLogitsWarper(share)),
    ):
        before = scores.clone()
        same(mine(None, scores), theirs(None, scores), scores)
        assert torch.equal(scores, before), "the scores that came in are left as they are"


def test_ties_keep_as_many() -> None:
    scores = torch.zeros(2, V)
    scores[:, :10] = 9.0
    scores[1, 10:20] = 8.0
    for share in (0.3, 0.95):
        mine = QuickTopP(stock.TopPLogitsWarper(share))(None, scores)
        theirs = stock.TopPLogitsWarper(share)(None, scores)
        assert torch.equal(mine.isfinite().sum(-1), theirs.isfinite().sum(-1))
        mine = QuickTypical(stock.TypicalLogitsWarper(share))(None, scores)
        theirs = stock.TypicalLogitsWarper(share)(None, scores)
        assert torch.equal(mine, theirs)


def test_a_sure_token_stays() -> None:
    scores = torch.zeros(1, V)
    scores[0, 3] = 100.0
    for processor in (stock.TopPLogitsWarper(0.01), stock.TypicalLogitsWarper(0.5)):
        assert quick(processor)(None, scores)[0].isfinite().nonzero().flatten().tolist() == [3]


def test_only_what_is_stock_is_replaced() -> None:
    assert isinstance(quick(stock.TopPLogitsWarper(0.5)), QuickTopP)
    assert isinstance(quick(stock.TypicalLogitsWarper(0.5)), QuickTypical)
    beams = stock.TopPLogitsWarper(0.5, min_tokens_to_keep=2)
    assert quick(beams) is beams
    other = stock.TopKLogitsWarper(5)
    assert quick(other) is other


def test_a_minimum_length_bans_the_end_and_then_is_gone() -> None:
    scores = draws(0)
    ids = torch.zeros((8, 9), dtype=torch.long)
    for least in (1, 3, 4, 5):
        slow = stock.MinNewTokensLengthLogitsProcessor(5, least, [3, 17, V + 4])
        fast = quick(slow)
        assert torch.equal(fast(ids, scores), slow(ids, scores))
        assert (fast(ids, scores) is scores) == (least <= 4)
