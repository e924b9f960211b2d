"""What is computed a few rows at a time equals what float64, and torch's own functions, say of the whole."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.decoding import gumbel as gumbel_in_torch
from harness.decoding import row_blocks
from harness.decoding.gumbel import draw, gumbel, step_state, uniform
from harness.decoding.logits import Logits, joined
from harness.decoding.row_blocks import block_rows, first_argmax, group_maxima, group_members

INF = float("inf")


def logits_of(rows: int, vocabulary: int, seed: int = 0) -> Tensor:
    return 4 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[1 << 18, 700], ids=["large blocks", "blocks of a row or two"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "_ELEMENTS", request.param)


def test_a_block_has_a_row_at_least_and_other_devices_have_one_block() -> None:
    assert block_rows(torch.empty(10, 1 << 20)) == 1
    assert block_rows(torch.empty(10, 1 << 16)) == 4
    assert block_rows(torch.empty(10, 1 << 16), share=0.5) == 2
    assert block_rows(torch.empty(10, 1 << 20, device="meta")) == 10


@pytest.mark.parametrize("vocabulary", [1, 63, 128, 300, 1024, 1031])
@pytest.mark.parametrize("few", [0, 32_000])
def test_the_first_of_equal_values_is_the_largest(
    vocabulary: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_blocks, "_FEW", few)
    values = logits_of(50, vocabulary).round()  # many are equal
    values[0] = -INF
    values[1, vocabulary // 2] = INF
    assert torch.equal(first_argmax(values), values.argmax(-1))
    values[2, vocabulary // 3] = float("nan")
    values[3, vocabulary - 1] = float("nan")
    assert torch.equal(first_argmax(values), values.argmax(-1))
    assert torch.equal(first_argmax(values.double()), values.argmax(-1))
    rows = torch.tensor([3, 0, 7, 7])
    assert torch.equal(first_argmax(values, rows=rows), values.argmax(-1)[rows])
    if vocabulary >= 16:
        assert torch.equal(first_argmax(values, group_maxima(values), rows), values.argmax(-1)[rows])


@pytest.mark.parametrize("vocabulary", [16, 37, 1024, 1031])
def test_groups_have_every_token_once(vocabulary: int) -> None:
    values = logits_of(3, vocabulary)
    maxima = group_maxima(values)
    members = group_members(torch.arange(maxima.shape[1])[:, None], vocabulary)
    assert torch.equal(values[:, members].amax(-1), maxima)
    assert sorted(token for one in members.tolist() for token in set(one)) == list(range(vocabulary))


def test_reductions_are_those_of_float64(blocks: None) -> None:
    logits = logits_of(7, 331)
    logits[1, ::3] = -INF
    logits[2, 1:] = -INF
    logits[3] = 0.25
    logits[4, 7] = 60.0
    found, exact = Logits(logits), logits.double()
    log_p = exact.log_softmax(-1)
    p = log_p.exp()

    def close(one: Tensor, other: Tensor, **tolerance: float) -> None:
        torch.testing.assert_close(one.double(), other, **{"atol": 2e-6, "rtol": 2e-6, **tolerance})

    close(found.log_total(), exact.logsumexp(-1, keepdim=True))
    close(found.log_p(), log_p, atol=5e-6)
    close(found.entropy(), torch.special.entr(p).sum(-1, keepdim=True), atol=5e-6)
    close(found.squares(), p.square().sum(-1, keepdim=True))
    for row, deviation in zip(exact, found.deviation()[:, 0], strict=True):
        close(deviation, row[row > -INF].std(correction=0))
    known = found.reductions()
    close(known.mean - known.log_rest, log_p.mean(-1, keepdim=True))
    rows, tokens = torch.tensor([1, 4, 1]), torch.tensor([[0, 1], [7, 8], [3, 4]])
    close(found.logprobs(rows, tokens), log_p[rows[:, None], tokens], atol=5e-6)


@pytest.mark.parametrize("bad", [float("nan"), INF])
def test_what_is_not_finite_spoils_its_row_alone(bad: float, blocks: None) -> None:
    logits = logits_of(5, 331)
    clean = Logits(logits.clone())
    logits[2, 17] = bad
    logits[4] = -INF
    found = Logits(logits)
    assert [math.isnan(value) for value in found.entropy()[:, 0].tolist()] == [
        False,
        False,
        True,
        False,
        True,
    ]
    for name in ("log_total", "entropy", "squares"):
        own, other = getattr(found, name)(), getattr(clean, name)()
        torch.testing.assert_close(own[[0, 1, 3]], other[[0, 1, 3]])


def test_totals_at_a_temperature_are_those_of_float64(blocks: None) -> None:
    logits = logits_of(7, 331)
    logits[1, ::3] = -INF
    known, other = Logits(logits), logits_of(3, 331, seed=1)
    known.spread()
    for found, rows in (
        (Logits(logits), logits),
        (known, logits),
        (known.select(torch.tensor([5, 1, 1])), logits[[5, 1, 1]]),
        (joined([known.select(torch.tensor([5])), Logits(other)]), torch.cat([logits[[5]], other])),
    ):
        temperatures = torch.linspace(0.3, 2.0, len(rows))[:, None]
        exact = (rows.double() / temperatures.double()).logsumexp(-1, keepdim=True)
        torch.testing.assert_close(found.log_total_at(temperatures).double(), exact, atol=5e-6, rtol=2e-6)


def test_improbable_tokens_add_nothing_to_the_squares() -> None:
    """The squares of probabilities below 1e-19 are subnormal numbers."""
    logits = logits_of(2, 331)
    logits[0, 1:] -= 60.0
    exact = logits.double().softmax(-1).square().sum(-1, keepdim=True)
    torch.testing.assert_close(Logits(logits).squares().double(), exact, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("vocabulary", [512, 1000, 4099])
@pytest.mark.parametrize("few", [0, 100_000])
def test_noise_is_computed_of_all_tokens_that_may_win(
    vocabulary: int, spread: float, few: int, blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gumbel_in_torch, "_FEW", few)
    logits = logits_of(12, vocabulary) / 4 * spread
    logits[3, ::2] = -INF
    logits[4, :-1] = -INF
    logits[5] = 0.0
    logits[6, 7] = 500.0
    logits[7] = -INF
    logits[7, -3:] = 1.0  # among them tokens of no group
    logits[8] = logits[8].round()
    for step in range(20):
        keys = torch.arange(12) * 0x7654321 + step
        noise = gumbel(step_state(keys, step)[:, None], torch.arange(vocabulary)[None])
        assert torch.equal(draw(logits, keys, step), (noise + logits).argmax(-1))
    logits[2, 17] = float("nan")
    assert draw(logits, keys, 0)[2] == 17
    logits[2, 17] = INF
    assert draw(logits, keys, 0)[2] == 17


def test_the_largest_of_a_million_hashes_wins_where_only_that_one_can(blocks: None) -> None:
    """Logits so much lower than another that one noise in a million makes up for it."""
    vocabulary, states = 1 << 16, step_state(torch.arange(16), 0)[:, None]
    largest = uniform(states, torch.arange(vocabulary)[None]).max(-1)
    needed = -(-largest.values.log()).log()
    for more, wins in ((1e-6, True), (-1e-6, False)):
        logits = torch.full((16, vocabulary), -10.0, dtype=torch.float64)
        for row in range(16):
            first = (int(largest.indices[row]) + 1) % vocabulary
            own = gumbel(states[row], torch.tensor([first]))[0]
            logits[row, first] = -10.0 + needed[row] - own - more
        drawn = draw(logits, torch.arange(16), 0)
        assert bool((drawn == largest.indices).all()) == wins


def test_what_is_drawn_does_not_depend_on_the_blocks(blocks: None) -> None:
    logits = logits_of(9, 331)
    logits[3, ::2] = -INF
    keys = torch.arange(9) * 0x1234567 - 5
    noise = gumbel(step_state(keys, 3)[:, None], torch.arange(331)[None])
    assert torch.equal(draw(logits, keys, 3), (noise + logits).argmax(-1))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("few", [0, 1 << 30])
def test_rows_that_are_selected_and_divided_are_as_if_they_were_computed(
    few: int, known: bool, blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is computed of them until it is asked for, and then from what is known of their source."""
    monkeypatch.setattr(gumbel_in_torch, "_FEW", few)
    values, other = logits_of(7, 1031), logits_of(2, 1031, seed=1)
    values[1, ::3] = -INF
    values[4, -1] = 40.0
    values[5] = values[5].round()
    index = torch.tensor([5, 1, 8, 1, 4, 0])
    rows = torch.cat([values, other])[index]
    divisors = torch.tensor([0.7, 0.7, 1.0, 3.0, 1e-3, 1.3])[:, None]
    joint = joined([Logits(values), Logits(other)])
    if known:
        joint.spread()
    selected = joint.select(index)
    for found, exact in ((selected, rows), (selected.divided(divisors), rows / divisors)):
        plain = Logits(exact)
        assert len(found) == len(exact)
        assert torch.equal(found.maxima(), group_maxima(exact))
        assert torch.equal(found.best(), exact.amax(-1, keepdim=True))
        assert torch.equal(found.top(9).logits, exact.topk(9).values)
        centred = exact.double() - exact.double().amax(-1, keepdim=True)
        blocks_found = torch.cat([block.double() for block in found.centred()])
        torch.testing.assert_close(blocks_found, centred, atol=2e-6, rtol=2e-6)
        some, tokens = torch.tensor([[3], [0]]), torch.tensor([[7, 1030], [2, 2]])
        assert torch.equal(found.at(some, tokens), exact[some, tokens])
        for name in ("log_total", "entropy", "squares", "deviation"):
            torch.testing.assert_close(getattr(found, name)(), getattr(plain, name)(), atol=2e-6, rtol=2e-6)
        torch.testing.assert_close(found.logprobs(some[:, 0], tokens), plain.logprobs(some[:, 0], tokens))
        for step in range(20):
            keys = torch.arange(len(exact)) * 0x7654321 + step
            assert torch.equal(draw(found, keys, step), draw(exact, keys, step))
        assert torch.equal(found.values, exact)
