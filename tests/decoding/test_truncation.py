"""Truncations that look at the likeliest tokens keep what transformers' warpers keep of the vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as stock

from harness.backends.hf.recorder import Recorder
from harness.decoding.gumbel import draw, noise_key
from harness.decoding.scores import Scores, entropy_of, likeliest
from harness.decoding.truncation import Cuts, Kept, Truncations, cuts_of

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


def cuts(warpers: list[Any]) -> Cuts:
    found, count = cuts_of(warpers)
    assert found is not None
    assert count == len(warpers)
    return found


def cut(warpers: list[Any], scores: torch.Tensor) -> list[tuple[list[int], Kept]]:
    return Truncations([cuts(warpers)], "cpu")(Scores(scores), [0] * len(scores))


def dense(parts: list[tuple[list[int], Kept]], vocabulary: int = V) -> torch.Tensor:
    """Of all tokens, those that are not left at -inf."""
    rows = sum(len(some) for some, _ in parts)
    everything = torch.full((rows, vocabulary), float("-inf"))
    for some, kept in parts:
        everything[some] = everything[some].scatter_(1, kept.tokens, kept.scores)
    assert sorted(row for some, _ in parts for row in some) == list(range(rows)), "every row once"
    return everything


def same(mine: torch.Tensor, theirs: torch.Tensor, scores: torch.Tensor) -> None:
    """Equal, but for what lies within float32's rounding of the threshold: one token, or tokens whose mass is
    no more than that."""
    differs = mine.isfinite() != theirs.isfinite()
    mass = (scores.double().softmax(-1) * differs).sum(-1)
    assert bool(((differs.sum(-1) <= 1) | (mass < ROUNDING)).all())
    assert torch.equal(mine[~differs], theirs[~differs])


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("seed", range(3))
def test_over_random_draws(name: str, seed: int) -> None:
    scores = draws(seed)
    before = scores.clone()
    same(dense(cut(LISTS[name], scores)), by_stock(LISTS[name], scores), scores)
    assert torch.equal(scores, before), "the scores that came in are left as they are"


@pytest.mark.parametrize("seed", range(3))
def test_all_strategies_together_are_as_each_alone(seed: int) -> None:
    scores, lists = draws(seed), list(LISTS.values())
    luck = torch.Generator().manual_seed(seed)
    which = torch.randint(len(lists), (200,), generator=luck).tolist()
    rows = torch.randint(len(scores), (200,), generator=luck)
    truncations = Truncations([cuts(warpers) for warpers in lists], "cpu")
    together = dense(truncations(Scores(scores).of_rows(rows), which))
    for place, (one, row) in enumerate(zip(which, rows.tolist(), strict=True)):
        own = scores[row : row + 1]
        same(together[place : place + 1], by_stock(lists[one], own), own)
        same(together[place : place + 1], dense(cut(lists[one], own)), own)


class Watched(Scores):
    """Scores that note how many of the likeliest were asked for."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__(logits)
        self.looked: list[int] = []

    def likeliest(self, count: int) -> Any:
        self.looked.append(count)
        return super().likeliest(count)


@pytest.mark.parametrize(
    ("name", "row", "most"),
    [
        ("top_p 0.9", 7, 64),
        ("typical 0.9", 7, 64),
        ("eta 0.02", 6, 64),
        ("top_k 64", 2, 1024),
        ("top_p 0.9", 0, V),
    ],
)
def test_a_few_tokens_settle_what_is_peaked(name: str, row: int, most: int) -> None:
    """So that it is the few tokens that the above tells of; only flat rows need all."""
    scores = Watched(draws(1)[row : row + 1])
    Truncations([cuts(LISTS[name])], "cpu")(scores, [0])
    assert max(scores.looked) == most


@pytest.mark.parametrize("share", [0.3, 0.95])
def test_ties_keep_as_many(share: float) -> None:
    scores = torch.zeros(2, V)
    scores[:, :10] = 15.0
    scores[1, 10:20] = 14.0
    for warper in (stock.TopPLogitsWarper(share), stock.TypicalLogitsWarper(share)):
        found = dense(cut([warper], scores))
        assert torch.equal(found.isfinite().sum(-1), warper(None, scores).isfinite().sum(-1))


def test_what_equals_the_last_of_the_k_stays_however_many_they_are() -> None:
    scores = torch.zeros(1, V)
    scores[0, 100:180] = 1.0
    for k in (3, 90):
        warper = stock.TopKLogitsWarper(k)
        assert torch.equal(dense(cut([warper], scores)), warper(None, scores))


@pytest.mark.parametrize("warper", [stock.TopPLogitsWarper(0.01), stock.EpsilonLogitsWarper(0.9)])
def test_the_likeliest_stays(warper: Any) -> None:
    scores = torch.zeros(1, V)
    scores[0, 3] = 30.0
    assert dense(cut([warper], scores)).isfinite().nonzero().tolist() == [[0, 3]]


def test_only_what_is_known_is_stood_for() -> None:
    top_p, penalty = stock.TopPLogitsWarper(0.5), stock.RepetitionPenaltyLogitsProcessor(1.2)
    assert cuts_of([penalty, HOT, top_p]) == (Cuts(temperature=1.4, top_p=0.5), 2)
    assert cuts_of([penalty, HOT]) == (None, 0), "a temperature cuts nothing"
    assert cuts_of([top_p, penalty]) == (None, 0)
    assert cuts_of([]) == (None, 0)
    assert cuts_of([HOT, stock.TopPLogitsWarper(0.5, min_tokens_to_keep=2)]) == (None, 0)
    assert cuts_of([stock.TopPLogitsWarper(0.5, filter_value=-1e9)]) == (None, 0)
    assert cuts_of([stock.TopHLogitsWarper(0.5), top_p]) == (Cuts(top_p=0.5), 1)
    assert cuts_of([top_p, stock.TopKLogitsWarper(9)]) == (Cuts(top_k=9), 1), "in another order than ours"


@pytest.mark.parametrize("name", LISTS)
def test_a_distribution_that_is_no_number_breaks_no_other(name: str) -> None:
    scores = draws(0)
    scores[2] = float("nan")
    found, others = dense(cut(LISTS[name], scores)), [0, 1, 3, 4, 5, 6, 7]
    assert not found[2].isfinite().any()
    same(found[others], by_stock(LISTS[name], scores[others]), scores[others])


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


def test_rows_know_what_is_known_of_all() -> None:
    logits, index = draws(1), torch.tensor([5, 0, 2, 0])
    log_p = logits.log_softmax(-1)
    for scores in (Scores(logits), Scores(logits, log_p, entropy_of(log_p))):
        some = scores.of_rows(index)
        alone = logits[index].double()
        torch.testing.assert_close(
            some.log_total().double(), alone.logsumexp(-1, keepdim=True), atol=1e-5, rtol=1e-6
        )
        entropy = torch.special.entr(alone.softmax(-1)).sum(-1, keepdim=True)
        torch.testing.assert_close(some.entropy().double(), entropy, atol=1e-4, rtol=1e-5)
        assert torch.equal(some.logits, logits[index])
        again = torch.tensor([3, 0])
        assert torch.equal(some.of_rows(again).logits, logits[index[again]])
        assert torch.equal(some.of_rows(again).log_total(), some.log_total()[again])
        for count in (3, 64, 200):
            assert torch.equal(some.likeliest(count).scores, logits[index].topk(count).values)


@pytest.mark.parametrize("name", ["top_k 5", "hot top_p", "min_p 0.3", "all of them", "typical 0.5"])
@pytest.mark.parametrize("step", [0, 5])
def test_draws_and_records_are_those_of_all_scores(name: str, step: int) -> None:
    logits = draws(2)[[5, 6, 7, 5]]
    logits[logits == float("-inf")] = -40.0
    parts = cut(LISTS[name], logits)
    scores = dense(parts)
    for some, kept in parts:
        # Two texts stand at the last row.
        places = torch.tensor([*range(len(some)), len(some) - 1])
        rows = torch.tensor(some)[places]
        keys = torch.tensor([noise_key(0, f"p{text}", 0) for text in range(len(places))])
        tokens = draw(scores[rows], keys, step)
        assert torch.equal(draw(kept.of_rows(places), keys, step), tokens)
        recorded = []
        for warped in (scores[some], kept):
            recorder = Recorder(5)
            seen = recorder.look(logits)
            recorder.observe(range(len(places)), seen, rows, tokens, warped, places)
            recorder.end_step(seen)
            done = recorder.finish()
            recorded.append([done.steps(text, 1, 5) for text in range(len(places))])
        for one, other in zip(*recorded, strict=True):
            for field, values in one.numbers().items():
                np.testing.assert_allclose(values, getattr(other, field), atol=1e-5, err_msg=field)
