"""Truncations that look at the likeliest tokens keep what transformers' warpers keep of the vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as stock

from harness.decoding.luck import draw, luck_key
from harness.decoding.scores import Scores, entropy_of, likeliest
from harness.decoding.truncation import Kept, Truncation, known_tail
from harness.engine.recorder import Recorder

V = 5003
ROUNDING = 5e-6
HOT, COOL = stock.TemperatureLogitsWarper(1.4), stock.TemperatureLogitsWarper(0.6)
LISTS: dict[str, list[Any]] = {
    **{f"top_k {k}": [stock.TopKLogitsWarper(k)] for k in (1, 5, 63, 64, 65, 1023, 3000, V + 5)},
    **{f"top_p {p}": [stock.TopPLogitsWarper(p)] for p in (0.0, 0.05, 0.5, 0.9, 0.99, 0.9999)},
    **{f"min_p {p}": [stock.MinPLogitsWarper(p)] for p in (0.0, 0.02, 0.3, 1.0)},
    **{f"typical {p}": [stock.TypicalLogitsWarper(p)] for p in (0.05, 0.5, 0.9, 0.99, 0.9999)},
    **{f"epsilon {e}": [stock.EpsilonLogitsWarper(e)] for e in (1e-5, 3e-4, 0.02, 0.9)},
    **{f"eta {e}": [stock.EtaLogitsWarper(e)] for e in (1e-5, 3e-4, 0.02, 0.9)},
    "hot top_p": [HOT, stock.TopPLogitsWarper(0.9)],
    "cool typical": [COOL, stock.TypicalLogitsWarper(0.9)],
    "hot min_p": [HOT, stock.MinPLogitsWarper(0.05)],
    "cool eta": [COOL, stock.EtaLogitsWarper(1e-3)],
    "top_k, then top_p": [COOL, stock.TopKLogitsWarper(50), stock.TopPLogitsWarper(0.9)],
    "all of them": [
        HOT,
        stock.TopKLogitsWarper(60),
        stock.TopPLogitsWarper(0.99),
        stock.MinPLogitsWarper(0.001),
        stock.TypicalLogitsWarper(0.95),
        stock.EpsilonLogitsWarper(1e-3),
        stock.EtaLogitsWarper(1e-2),
    ],
}


def draws(seed: int) -> torch.Tensor:
    """Rows from nearly sure to nearly flat, some with tokens that were cut before."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([0.01, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 20.0])[:, None]
    scores = torch.randn(8, V, generator=generator) * spread
    scores[::3, ::7] = float("-inf")
    return scores


def by_stock(warpers: list[Any], scores: torch.Tensor) -> torch.Tensor:
    for warper in warpers:
        scores = warper(None, scores)
    return scores


def dense(kept: Kept, vocabulary: int = V) -> torch.Tensor:
    """Of all tokens, those that are not left at -inf."""
    everything = torch.full((len(kept.tokens), vocabulary), float("-inf"))
    return everything.scatter_(1, kept.tokens, kept.scores)


def same(mine: torch.Tensor, theirs: torch.Tensor, scores: torch.Tensor) -> None:
    """Equal, but for what lies within float32's rounding of the threshold: one token, or tokens whose mass is
    no more than that."""
    differs = mine.isfinite() != theirs.isfinite()
    mass = (scores.double().softmax(-1) * differs).sum(-1)
    assert bool(((differs.sum(-1) <= 1) | (mass < ROUNDING)).all())
    assert torch.equal(mine[~differs], theirs[~differs])


def settled(warpers: list[Any], scores: torch.Tensor) -> torch.Tensor:
    """The rows of which the likeliest tokens tell what is left, each asked for by itself."""
    found = [Truncation(warpers)(Scores(row[None])) is not None for row in scores]
    return torch.tensor(found)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("seed", range(3))
def test_over_random_draws(name: str, seed: int) -> None:
    warpers, scores = LISTS[name], draws(seed)
    before = scores.clone()
    for row in scores:
        kept = Truncation(warpers)(Scores(row[None]))
        if kept is not None:
            same(dense(kept), by_stock(warpers, row[None]), row[None])
    assert torch.equal(scores, before), "the scores that came in are left as they are"
    # Rows that are settled stay so in company, and in the order of their own.
    index = settled(warpers, scores).nonzero()[:, 0].flip(0)
    if len(index):
        kept = Truncation(warpers)(Scores(scores).of_rows(index))
        assert kept is not None
        same(dense(kept), by_stock(warpers, scores[index]), scores[index])


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("top_k 5", 8),
        ("top_k 64", 8),
        ("top_p 0.9", 4),
        ("min_p 0.3", 6),
        ("typical 0.9", 4),
        ("eta 0.02", 4),
    ],
)
def test_what_is_peaked_is_settled(name: str, least: int) -> None:
    """So that the above asks for something: as many of the eight rows are settled by the likeliest."""
    assert int(settled(LISTS[name], draws(0)).sum()) >= least


@pytest.mark.parametrize("share", [0.3, 0.95])
def test_ties_keep_as_many(share: float) -> None:
    scores = torch.zeros(2, V)
    scores[:, :10] = 9.0
    scores[1, 10:20] = 8.0
    for warper in (stock.TopPLogitsWarper(share), stock.TypicalLogitsWarper(share)):
        kept = Truncation([warper])(Scores(scores + 6 * (scores > 0)))
        theirs = warper(None, scores + 6 * (scores > 0))
        assert kept is not None
        assert torch.equal(dense(kept).isfinite().sum(-1), theirs.isfinite().sum(-1))


def test_what_equals_the_last_of_the_k_stays_however_many_they_are() -> None:
    scores = torch.zeros(1, V)
    scores[0, 100:180] = 1.0
    kept = Truncation([stock.TopKLogitsWarper(3)])(Scores(scores))
    assert kept is not None
    assert torch.equal(dense(kept), stock.TopKLogitsWarper(3)(None, scores))
    assert Truncation([stock.TopKLogitsWarper(90)])(Scores(scores)) is None, "all others are tied"


@pytest.mark.parametrize("warper", [stock.TopPLogitsWarper(0.01), stock.EpsilonLogitsWarper(0.9)])
def test_the_likeliest_stays(warper: Any) -> None:
    scores = torch.zeros(1, V)
    scores[0, 3] = 30.0
    kept = Truncation([warper])(Scores(scores))
    assert kept is not None
    assert dense(kept).isfinite().nonzero().tolist() == [[0, 3]]


def test_only_what_is_known_is_stood_for() -> None:
    top_p, penalty = stock.TopPLogitsWarper(0.5), stock.RepetitionPenaltyLogitsProcessor(1.2)
    assert known_tail([penalty, HOT, top_p]) == 2
    assert known_tail([penalty, HOT]) == 0, "a temperature cuts nothing"
    assert known_tail([top_p, penalty]) == 0
    assert known_tail([]) == 0
    assert known_tail([HOT, stock.TopPLogitsWarper(0.5, min_tokens_to_keep=2)]) == 0
    assert known_tail([stock.TopPLogitsWarper(0.5, filter_value=-1e9)]) == 0
    assert known_tail([stock.TopHLogitsWarper(0.5), top_p]) == 1


def test_a_distribution_that_is_no_number_breaks_nothing() -> None:
    scores = draws(0)
    scores[2] = float("nan")
    for warpers in LISTS.values():
        kept = Truncation(warpers)(Scores(scores[1:3]))
        assert kept is None or not dense(kept)[1].isfinite().any()


@pytest.mark.parametrize("vocabulary", [1, 9, 100, 1024, 2050, V])
@pytest.mark.parametrize("count", [0, 1, 5, 64])
def test_the_likeliest_are_those_of_a_sort(vocabulary: int, count: int) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    count = min(count, vocabulary)
    scores = torch.randn(6, vocabulary, generator=generator)
    scores[1] = scores[1].round()  # many ties
    scores[2, 1:] = float("-inf")
    scores[3] = scores[3].sort().values
    found = likeliest(scores, count)
    assert torch.equal(found.scores, scores.sort(descending=True).values[:, :count])
    assert torch.equal(scores.gather(1, found.tokens), found.scores)
    for row in found.tokens.tolist():
        assert len(set(row)) == count, "none twice"


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_rows_know_what_is_known_of_all(temperature: float) -> None:
    logits, index = draws(1), torch.tensor([5, 0, 2])
    log_p = logits.log_softmax(-1)
    for scores in (Scores(logits), Scores(logits, log_p, entropy_of(log_p))):
        some = scores.of_rows(index)
        alone = logits[index].double() / temperature
        torch.testing.assert_close(
            some.log_total(temperature).double(), alone.logsumexp(-1, keepdim=True), atol=1e-5, rtol=1e-6
        )
        entropy = torch.special.entr(alone.softmax(-1)).sum(-1, keepdim=True)
        torch.testing.assert_close(some.entropy(temperature).double(), entropy, atol=1e-4, rtol=1e-5)
        assert torch.equal(some.logits, logits[index])
        for count in (3, 64, 200):
            assert torch.equal(some.likeliest(count).scores, logits[index].topk(count).values)


@pytest.mark.parametrize("name", ["top_k 5", "hot top_p", "min_p 0.3", "all of them", "typical 0.5"])
@pytest.mark.parametrize("step", [0, 5])
def test_draws_and_records_are_those_of_all_scores(name: str, step: int) -> None:
    logits = draws(2)[[5, 6, 7, 5]]
    logits[logits == float("-inf")] = -40.0
    recorder = Recorder(5)
    kept = Truncation(LISTS[name])(recorder.look(logits).scores)
    assert kept is not None
    # Two texts stand at the third row.
    places = torch.tensor([0, 1, 2, 2, 3])
    keys = torch.tensor([luck_key(0, f"p{text}", 0) for text in range(5)])
    scores = dense(kept)
    tokens = draw(scores[places], keys, step)
    assert torch.equal(draw(kept.of_rows(places), keys, step), tokens)
    recorded = []
    for warped in (scores, kept):
        recorder = Recorder(5)
        seen = recorder.look(logits)
        recorder.observe(range(5), seen, places, tokens, warped, places)
        recorder.end_step(seen)
        done = recorder.finish()
        recorded.append([done.steps(text, 1, 5) for text in range(5)])
    for one, other in zip(*recorded, strict=True):
        for field, values in vars(one).items():
            np.testing.assert_allclose(values, getattr(other, field), atol=1e-5, err_msg=field)
