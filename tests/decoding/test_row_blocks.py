"""What is computed a few rows at a time equals what float64, and torch's own functions, say of the whole."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.decoding import row_blocks
from harness.decoding.gumbel import draw, gumbel, step_state
from harness.decoding.logits import Logits
from harness.decoding.row_blocks import block_rows, first_argmax

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
def test_the_first_of_equal_values_is_the_largest(vocabulary: int) -> None:
    values = logits_of(50, vocabulary).round()  # many are equal
    values[0] = -INF
    values[1, vocabulary // 2] = INF
    assert torch.equal(first_argmax(values), values.argmax(-1))
    values[2, vocabulary // 3] = float("nan")
    values[3, vocabulary - 1] = float("nan")
    assert torch.equal(first_argmax(values), values.argmax(-1))
    assert torch.equal(first_argmax(values.double()), values.argmax(-1))


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


def test_what_is_drawn_does_not_depend_on_the_blocks(blocks: None) -> None:
    logits = logits_of(9, 331)
    logits[3, ::2] = -INF
    keys = torch.arange(9) * 0x1234567 - 5
    noise = gumbel(step_state(keys, 3)[:, None], torch.arange(331)[None])
    assert torch.equal(draw(logits, keys, 3), (noise + logits).argmax(-1))
