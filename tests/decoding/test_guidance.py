"""Guidance as pure functions: worked numbers, identities, and which layers DoLa looks at."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.decoding.guidance import ClassifierFree, ContrastiveDecoding, Dola, divergence, guidance_of

INF = math.inf


def log(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64).log()


def p_of(scores: torch.Tensor) -> list[float]:
    return scores.softmax(-1)[0].tolist()


def amateur(alpha: float = 0.1, beta: float | None = None, temperature: float = 1.0) -> ContrastiveDecoding:
    return ContrastiveDecoding("small", alpha, beta, temperature)


class TestWorkedNumbers:
    def test_classifier_free_guidance(self) -> None:
        scores = ClassifierFree(1.5)(log(0.5, 0.3, 0.2), log(0.2, 0.5, 0.3))
        assert scores[0].tolist() == pytest.approx([-0.235002, -1.459386, -1.812170], abs=1e-6)
        assert p_of(scores) == pytest.approx([0.666445, 0.195894, 0.137660], abs=1e-6)

    def test_contrastive_decoding(self) -> None:
        log_p, log_a = log(0.5, 0.3, 0.15, 0.05), log(0.6, 0.2, 0.1, 0.1)
        scores = amateur()(log_p, log_a)
        expected = [-0.182322, 0.405465, 0.405465, -0.693147]
        assert scores[0].tolist() == pytest.approx(expected, abs=1e-6), "the last one is at the threshold"
        assert p_of(scores) == pytest.approx([0.192308, 0.346154, 0.346154, 0.115385], abs=1e-6)
        both = [0.437649, 0.352301, 0.176150, 0.033900]
        assert p_of(amateur(beta=0.5)(log_p, log_a)) == pytest.approx(both, abs=1e-6)
        assert amateur(alpha=0.2)(log_p, log_a)[0, 3] == -INF

    def test_dola(self) -> None:
        last = log(0.6, 0.3, 0.08, 0.02)
        layers = torch.stack([log(0.25, 0.25, 0.25, 0.25), log(0.5, 0.35, 0.1, 0.05)], dim=1)
        assert divergence(last[:, None], layers)[0].tolist() == pytest.approx([0.119172, 0.007116], abs=1e-6)
        scores = Dola("low")(last, layers)
        assert scores[0, :3].tolist() == pytest.approx([0.875469, 0.182322, -1.139434], abs=1e-6)
        assert scores[0, 3] == -INF
        assert p_of(scores) == pytest.approx([0.612245, 0.306122, 0.081633, 0], abs=1e-6)


def distributions(count: int, size: int = 7) -> Any:
    one = st.lists(st.floats(-8, 8), min_size=size, max_size=size)
    many = st.lists(one, min_size=count, max_size=count)
    return many.map(lambda rows: torch.tensor(rows, dtype=torch.float64).log_softmax(-1))


class TestIdentities:
    @settings(deadline=None)
    @given(distributions(2))
    def test_a_scale_of_1_is_the_model_and_of_0_the_second_prompt(self, both: torch.Tensor) -> None:
        log_p, second = both[:1], both[1:]
        torch.testing.assert_close(ClassifierFree(1.0)(log_p, second), log_p)
        torch.testing.assert_close(ClassifierFree(0.0)(log_p, second), second)

    @settings(deadline=None)
    @given(distributions(1), st.floats(0.05, 1))
    def test_an_amateur_that_is_the_model_leaves_nothing_to_choose_by(
        self, log_p: torch.Tensor, alpha: float
    ) -> None:
        scores = amateur(alpha)(log_p, log_p)[0]
        kept = scores > -INF
        assert kept[log_p[0].argmax()]
        torch.testing.assert_close(scores[kept], torch.zeros(int(kept.sum()), dtype=torch.float64))

    @settings(deadline=None)
    @given(distributions(2))
    def test_dola_with_one_layer_is_contrastive_decoding_with_that_layer(self, both: torch.Tensor) -> None:
        log_p, layer = both[:1], both[1:]
        torch.testing.assert_close(Dola((0,))(log_p, layer[:, None]), amateur()(log_p, layer))

    @settings(deadline=None)
    @given(distributions(4), st.permutations(range(7)), st.floats(-5, 5))
    def test_tokens_may_be_renamed_and_logits_shifted(
        self, rows: torch.Tensor, order: list[int], shift: float
    ) -> None:
        log_p, second = rows[:1], rows[1:2]
        for guidance in (ClassifierFree(1.7), amateur(), amateur(beta=0.5, temperature=0.5)):
            renamed = guidance(log_p[:, order], second[:, order])
            torch.testing.assert_close(renamed, guidance(log_p, second)[:, order])
        shifted = amateur(temperature=2.0)(log_p, second + shift)
        torch.testing.assert_close(shifted, amateur(temperature=2.0)(log_p, second))
        layers = rows[None, 1:]
        renamed = Dola("low")(log_p[:, order], layers[:, :, order])
        torch.testing.assert_close(renamed, Dola("low")(log_p, layers)[:, order])

    @settings(deadline=None)
    @given(distributions(3))
    def test_the_divergence_is_that_of_scipy(self, rows: torch.Tensor) -> None:
        found = divergence(rows[:1], rows[1:])
        with np.errstate(invalid="ignore"):  # the root of a difference of rounding below 0
            distances = [jensenshannon(rows[0].exp(), one.exp()) for one in rows[1:]]
        assert np.allclose(found, np.nan_to_num(distances) ** 2, atol=1e-7)


def test_what_the_fields_ask_for() -> None:
    def guidance(**fields: Any) -> Any:
        return guidance_of(effective_decoding(Decoding(name="x", **fields)))

    assert guidance() is None
    assert guidance(guidance_scale=1.0) is None
    assert guidance(guidance_scale=2.0, negative_prompt="No.") == ClassifierFree(2.0)
    assert guidance(context_alpha=0.5) == ClassifierFree(1.5)
    assert guidance(amateur="small") == amateur()
    assert guidance(amateur="small", contrastive_beta=0.5, amateur_temperature=0.5) == amateur(0.1, 0.5, 0.5)
    assert guidance(dola_layers=(0, 2)) == Dola((0, 2))


def test_a_token_without_probability_never_gets_any() -> None:
    log_p = torch.tensor([[0.0, -1.0, -INF, -2.0]]).log_softmax(-1)
    second = torch.tensor([[-INF, 0.0, 0.0, -1.0]]).log_softmax(-1)
    for guidance in (ClassifierFree(0.0), ClassifierFree(1.5), amateur(), amateur(beta=0.5)):
        scores = guidance(log_p.clone(), second)
        assert scores.isnan().sum() == 0
        assert scores[0, 2] == -INF
    assert ClassifierFree(1.5)(log_p, second)[0, 0] == -INF
    broken = torch.full((1, 4), math.nan)
    assert ClassifierFree(1.5)(broken, second)[0, 1:].isnan().all(), "NaN is told, not hidden"


def test_an_amateur_whose_vocabulary_is_padded_otherwise() -> None:
    log_p = log(0.4, 0.3, 0.2, 0.1).float()
    wide, narrow = torch.zeros((1, 6)), torch.zeros((1, 3))
    assert amateur()(log_p, wide).shape == (1, 4)
    assert amateur()(log_p, narrow)[0].isinf().tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("layers", "count", "tied", "expected"),
    [
        ("low", 32, False, tuple(range(0, 16, 2))),
        ("high", 32, False, tuple(range(16, 32, 2))),
        ("low", 24, True, tuple(range(2, 12, 2))),
        ("low", 80, False, tuple(range(0, 20, 2))),
        ("high", 80, False, tuple(range(60, 80, 2))),
        ("low", 2, True, (1,)),
        ("low", 4, True, (2,)),
        ("low", 3, True, (1,)),
        ("low", 1, True, (0,)),
        ("high", 2, True, (1,)),
        ((0, 3), 6, True, (0, 3)),
    ],
)
def test_layers_of_dola(layers: Any, count: int, tied: bool, expected: tuple[int, ...]) -> None:
    """As transformers had them up to version 4.55."""
    assert Dola(layers).candidates(count, tied) == expected
