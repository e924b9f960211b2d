"""The arithmetic of drift, against float64 by hand; what is known in part stays within its bound."""

from __future__ import annotations

import math

import pytest
import torch

from harness.backends.hf import divergence as under_test
from harness.backends.hf.divergence import Top, divergence, top_of


def by_hand(reference: torch.Tensor, logits: torch.Tensor, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    log_p, log_q = reference.double().log_softmax(-1), logits.double().log_softmax(-1)
    p, q = log_p.exp(), log_q.exp()
    rows = torch.arange(len(tokens))
    two = p.sort(descending=True).values
    return {
        "logprob": log_p[rows, tokens],
        "drift_logprob": log_q[rows, tokens],
        "rank": 1 + (reference > reference[rows, tokens, None]).sum(-1),
        "drift_rank": 1 + (logits > logits[rows, tokens, None]).sum(-1),
        "entropy": -(p * log_p).sum(-1),
        "drift_entropy": -(q * log_q).sum(-1),
        "margin": two[:, 0] - two[:, 1],
        "same_top": reference.argmax(-1) == logits.argmax(-1),
        "kl": (p * (log_p - log_q)).sum(-1),
        "total_variation": (p - q).abs().sum(-1) / 2,
    }


def two_models(change: float, vocabulary: int = 1000, rows: int = 37) -> tuple[torch.Tensor, ...]:
    luck = torch.Generator().manual_seed(0)
    reference = torch.randn(rows, vocabulary, generator=luck) * 3
    logits = reference + torch.randn(rows, vocabulary, generator=luck) * change
    return reference, logits, torch.randint(vocabulary, (rows,), generator=luck)


@pytest.mark.parametrize("change", [1e-4, 0.1, 5.0])
def test_all_that_is_told_is_what_float64_tells(change: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "_BLOCK", 5000)  # blocks of five rows, the last one of two
    reference, logits, tokens = two_models(change)
    told = divergence(reference, logits, tokens, 4)
    for name, true in by_hand(reference, logits, tokens).items():
        assert torch.allclose(told[name].double(), true.double(), atol=1e-5, rtol=1e-5), name
    assert (told["kl_error"] == 0).all()
    top = logits.double().log_softmax(-1).topk(4)
    assert torch.equal(told["top_ids"], top.indices)
    assert torch.allclose(told["top_logprobs"].double(), top.values, atol=1e-5)


def test_a_large_vocabulary_is_summed_well() -> None:
    reference, logits, tokens = two_models(0.3, vocabulary=150_001, rows=3)
    told = divergence(reference, logits, tokens, 4)
    for name, true in by_hand(reference, logits, tokens).items():
        assert torch.allclose(told[name].double(), true.double(), atol=1e-5, rtol=0), name
    assert torch.equal(told["top_ids"], logits.topk(4).indices)


def test_rounding_leaves_nothing_of_a_small_divergence() -> None:
    """16-bit weights change KL by 1e-8; a sum of p log(p/q) in float32 has an error of 1e-7."""
    reference, logits, tokens = two_models(1e-4)
    true = by_hand(reference, logits, tokens)["kl"]
    assert 1e-9 < float(true.mean()) < 1e-8
    assert torch.allclose(
        divergence(reference, logits, tokens, 1)["kl"].double(), true, rtol=0.02, atol=1e-11
    )


def test_a_model_has_no_drift_against_itself() -> None:
    reference, _, tokens = two_models(0)
    reference[:, 7] = reference.max(-1).values  # a tie at the top
    told = divergence(reference, reference.clone(), tokens, 3)
    for name in ("kl", "total_variation"):
        assert (told[name] == 0).all(), name
    for own, other in (("logprob", "drift_logprob"), ("rank", "drift_rank"), ("entropy", "drift_entropy")):
        assert torch.equal(told[own], told[other])
    assert told["same_top"].all()


def test_tokens_without_mass() -> None:
    """Both rule a token out: it adds nothing. Only the second does: the divergence is infinite."""
    reference, logits, tokens = two_models(0.5)
    tokens.fill_(0)
    true = by_hand(reference[:, :-1], logits[:, :-1], tokens)
    for one in (reference, logits):
        one[:, -1] = -math.inf
    told = divergence(reference, logits, tokens, 3)
    for name in ("kl", "entropy", "drift_entropy", "total_variation"):
        assert torch.allclose(told[name].double(), true[name], atol=1e-5), name
    logits[3, 5] = -math.inf
    assert told["kl"].isfinite().all()
    assert divergence(reference, logits, tokens, 3)["kl"].isinf().tolist() == [row == 3 for row in range(37)]


def test_distributions_that_are_worlds_apart() -> None:
    reference = torch.tensor([[0.0, -200.0, -300.0]])
    logits = torch.tensor([[-400.0, 0.0, -5.0]])
    told = divergence(reference, logits, torch.tensor([0]), 2)
    true = by_hand(reference, logits, torch.tensor([0]))
    assert float(told["kl"]) == pytest.approx(float(true["kl"]), rel=1e-6)
    assert float(told["total_variation"]) == pytest.approx(1.0)


@pytest.mark.parametrize("change", [0.02, 0.5, 4.0])
@pytest.mark.parametrize("k", [2, 50, 999, 1000])
def test_what_is_known_in_part_is_within_its_bound(change: float, k: int) -> None:
    reference, logits, tokens = two_models(change)
    kept = top_of(reference, tokens, k)
    assert kept.ids.shape == (37, k)
    told = divergence(kept, logits, tokens, 4)
    true = by_hand(reference, logits, tokens)
    error = (told["kl"].double() - true["kl"]).abs()
    assert (error <= told["kl_error"] + 1e-5).all()
    for name in ("logprob", "rank", "entropy", "margin", "same_top", "drift_rank", "drift_logprob"):
        assert torch.allclose(told[name].double(), true[name].double(), atol=1e-5), name
    assert (told["total_variation"] <= true["total_variation"] + 1e-6).all()
    if k >= 999:
        assert torch.allclose(told["kl"].double(), true["kl"], atol=1e-5)


def test_the_guess_is_better_than_its_bound() -> None:
    """Two models of one family give the rest the same proportions, more or less."""
    reference, logits, tokens = two_models(0.2)
    told = divergence(top_of(reference, tokens, 100), logits, tokens, 1)
    true = by_hand(reference, logits, tokens)["kl"]
    assert float((told["kl"] - true).abs().mean()) < float(told["kl_error"].mean()) / 20


def test_a_rest_without_mass(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = torch.tensor([[5.0, 4.0, -math.inf, -math.inf]])
    logits = torch.tensor([[4.0, 5.0, 1.0, -math.inf]])
    kept = top_of(reference, torch.tensor([1]), 2)
    assert isinstance(kept, Top)
    assert float(kept.rest) == 0
    assert float(kept.rest_plogp) == 0
    told = divergence(kept, logits, torch.tensor([1]), 1)
    p = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))]
    z = math.exp(4) + math.exp(5) + math.exp(1)
    q = [math.exp(4) / z, math.exp(5) / z]
    assert float(told["kl"]) == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    assert float(told["kl_error"]) == 0
