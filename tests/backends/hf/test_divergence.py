"""The arithmetic of drift compared with float64; references reduced to top tokens stay within bounds."""

from __future__ import annotations

import math

import pytest
import torch

from harness.backends.hf import divergence as under_test
from harness.backends.hf.divergence import TopTokens, divergence, top_tokens


def in_float64(
    reference: torch.Tensor, logits: torch.Tensor, tokens: torch.Tensor
) -> dict[str, torch.Tensor]:
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
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(rows, vocabulary, generator=generator) * 3
    logits = reference + torch.randn(rows, vocabulary, generator=generator) * change
    return reference, logits, torch.randint(vocabulary, (rows,), generator=generator)


@pytest.mark.parametrize("change", [1e-4, 0.1, 5.0])
def test_all_columns_equal_float64(change: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "_BLOCK", 5000)  # blocks of five rows, the last one of two
    reference, logits, tokens = two_models(change)
    found = divergence(reference, logits, tokens, 4)
    for name, true in in_float64(reference, logits, tokens).items():
        assert torch.allclose(found[name].double(), true.double(), atol=1e-5, rtol=1e-5), name
    assert (found["kl_error"] == 0).all()
    top = logits.double().log_softmax(-1).topk(4)
    assert torch.equal(found["top_ids"], top.indices)
    assert torch.allclose(found["top_logprobs"].double(), top.values, atol=1e-5)


def test_sums_over_a_large_vocabulary() -> None:
    reference, logits, tokens = two_models(0.3, vocabulary=150_001, rows=3)
    found = divergence(reference, logits, tokens, 4)
    for name, true in in_float64(reference, logits, tokens).items():
        assert torch.allclose(found[name].double(), true.double(), atol=1e-5, rtol=0), name
    assert torch.equal(found["top_ids"], logits.topk(4).indices)


def test_small_divergences_are_not_lost_in_rounding() -> None:
    """16-bit weights change KL by 1e-8; a sum of p log(p/q) in float32 has an error of 1e-7."""
    reference, logits, tokens = two_models(1e-4)
    true = in_float64(reference, logits, tokens)["kl"]
    assert 1e-9 < float(true.mean()) < 1e-8
    assert torch.allclose(
        divergence(reference, logits, tokens, 1)["kl"].double(), true, rtol=0.02, atol=1e-11
    )


def test_a_model_does_not_diverge_from_itself() -> None:
    reference, _, tokens = two_models(0)
    reference[:, 7] = reference.max(-1).values  # a tie at the top
    found = divergence(reference, reference.clone(), tokens, 3)
    for name in ("kl", "total_variation"):
        assert (found[name] == 0).all(), name
    for reference_column, column in (
        ("logprob", "drift_logprob"),
        ("rank", "drift_rank"),
        ("entropy", "drift_entropy"),
    ):
        assert torch.equal(found[reference_column], found[column])
    assert found["same_top"].all()


def test_tokens_of_no_probability() -> None:
    """If both exclude a token it adds nothing; if only the second does, the divergence is infinite."""
    reference, logits, tokens = two_models(0.5)
    tokens.fill_(0)
    true = in_float64(reference[:, :-1], logits[:, :-1], tokens)
    for scores in (reference, logits):
        scores[:, -1] = -math.inf
    found = divergence(reference, logits, tokens, 3)
    for name in ("kl", "entropy", "drift_entropy", "total_variation"):
        assert torch.allclose(found[name].double(), true[name], atol=1e-5), name
    logits[3, 5] = -math.inf
    assert found["kl"].isfinite().all()
    assert divergence(reference, logits, tokens, 3)["kl"].isinf().tolist() == [row == 3 for row in range(37)]


def test_distributions_with_extreme_ratios() -> None:
    reference = torch.tensor([[0.0, -200.0, -300.0]])
    logits = torch.tensor([[-400.0, 0.0, -5.0]])
    found = divergence(reference, logits, torch.tensor([0]), 2)
    true = in_float64(reference, logits, torch.tensor([0]))
    assert float(found["kl"]) == pytest.approx(float(true["kl"]), rel=1e-6)
    assert float(found["total_variation"]) == pytest.approx(1.0)


@pytest.mark.parametrize("change", [0.02, 0.5, 4.0])
@pytest.mark.parametrize("k", [2, 50, 999, 1000])
def test_kl_from_top_tokens_is_within_its_error_bound(change: float, k: int) -> None:
    reference, logits, tokens = two_models(change)
    reduced = top_tokens(reference, tokens, k)
    assert reduced.ids.shape == (37, k)
    found = divergence(reduced, logits, tokens, 4)
    true = in_float64(reference, logits, tokens)
    error = (found["kl"].double() - true["kl"]).abs()
    assert (error <= found["kl_error"] + 1e-5).all()
    for name in ("logprob", "rank", "entropy", "margin", "same_top", "drift_rank", "drift_logprob"):
        assert torch.allclose(found[name].double(), true[name].double(), atol=1e-5), name
    assert (found["total_variation"] <= true["total_variation"] + 1e-6).all()
    if k >= 999:
        assert torch.allclose(found["kl"].double(), true["kl"], atol=1e-5)


def test_the_estimate_is_much_better_than_its_bound() -> None:
    """Two similar models give the unlisted tokens about the same proportions."""
    reference, logits, tokens = two_models(0.2)
    found = divergence(top_tokens(reference, tokens, 100), logits, tokens, 1)
    true = in_float64(reference, logits, tokens)["kl"]
    assert float((found["kl"] - true).abs().mean()) < float(found["kl_error"].mean()) / 20


def test_unlisted_tokens_of_no_probability() -> None:
    reference = torch.tensor([[5.0, 4.0, -math.inf, -math.inf]])
    logits = torch.tensor([[4.0, 5.0, 1.0, -math.inf]])
    reduced = top_tokens(reference, torch.tensor([1]), 2)
    assert isinstance(reduced, TopTokens)
    assert float(reduced.rest) == 0
    assert float(reduced.rest_plogp) == 0
    found = divergence(reduced, logits, torch.tensor([1]), 1)
    p = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))]
    z = math.exp(4) + math.exp(5) + math.exp(1)
    q = [math.exp(4) / z, math.exp(5) / z]
    assert float(found["kl"]) == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    assert float(found["kl_error"]) == 0
