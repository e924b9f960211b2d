"""Each sampler against numbers worked out by hand, against llama.cpp's own, and against its definition.

The worked distribution is p = [.40 .25 .15 .10 .06 .04]. Where a value is marked `webui`, the code of
text-generation-webui gives the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from sampled import dense, sampled, sampling, settings

from harness.config.sampler_order import DEFAULT_ORDER
from harness.decoding.logits import Logits
from harness.decoding.sampler_chain import SamplerChain, StateOfRows, common_order
from harness.decoding.sampler_state import SamplerState
from harness.decoding.texts import Texts

P = (0.40, 0.25, 0.15, 0.10, 0.06, 0.04)
V = 3001


def distribution(p: Any, states: Mapping[str, Any] | None = None, **fields: Any) -> list[float]:
    """Return what is drawn from, of the distribution p."""
    logits = torch.tensor([p], dtype=torch.float64).log().float()
    return sampled(logits, states, **fields)[0].softmax(-1).tolist()


def kept(p: Any, states: Mapping[str, Any] | None = None, **fields: Any) -> list[int]:
    return [token for token, q in enumerate(distribution(p, states, **fields)) if q > 0]


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"top_a": 0.5}, [0, 1, 2, 3]),  # webui
        ({"top_a": 1.0}, [0, 1]),  # webui
        ({"top_n_sigma": 1.0}, [0, 1]),  # webui
        ({"top_n_sigma": 1.5}, [0, 1, 2]),  # webui
        ({"top_n_sigma": 2.0}, [0, 1, 2, 3]),  # webui
        ({"p_less": True}, [0]),
        ({"p_less": "norm"}, [0, 1, 2]),
        ({"tfs": 0.5}, [0, 1]),  # webui
        ({"tfs": 0.8}, [0, 1, 2]),  # webui
        ({"tfs": 0.9}, [0, 1, 2, 3]),  # webui
    ],
    ids=str,
)
def test_truncations_keep_what_was_worked_out(fields: dict[str, Any], tokens: list[int]) -> None:
    assert kept(P, **fields) == tokens
    of_them = sum(P[token] for token in tokens)
    expected = [p / of_them if token in tokens else 0.0 for token, p in enumerate(P)]
    assert distribution(P, **fields) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"xtc_threshold": 0.12}, [0, 0, 0.428571, 0.285714, 0.171429, 0.114286]),
        ({"xtc_threshold": 0.2}, [0, 0.416667, 0.25, 0.166667, 0.1, 0.066667]),
        ({"xtc_threshold": 0.3}, list(P)),
        (
            {"xtc_threshold": 0.12, "xtc_probability": 0.5},
            [0.2, 0.125, 0.289286, 0.192857, 0.115714, 0.077143],
        ),
        ({"smoothing_factor": 0.3}, [0.263816, 0.246899, 0.197679, 0.148222, 0.089616, 0.053768]),
        (
            {"smoothing_factor": 0.3, "smoothing_curve": 2.0},  # webui
            [0.286690, 0.273060, 0.215414, 0.144099, 0.060001, 0.020737],
        ),
        ({"dynatemp_range": 0.5}, [0.335986, 0.237288, 0.162597, 0.120450, 0.082536, 0.061142]),  # webui
        ({"edt_theta": 1.0}, [0.437923, 0.254170, 0.140712, 0.088004, 0.048720, 0.030471]),
        ({"skew": 0.5}, [0.220754, 0.270772, 0.200660, 0.148355, 0.094370, 0.065089]),
        ({"skew": -0.5}, [0.573637, 0.196426, 0.103353, 0.064679, 0.037450, 0.024456]),
    ],
    ids=str,
)
def test_reshaped_distributions_are_those_worked_out(fields: dict[str, Any], expected: list[float]) -> None:
    if "xtc_threshold" in fields:
        fields = {"xtc_probability": 1.0, **fields}
    assert distribution(P, **fields) == pytest.approx(expected, abs=2e-6)


def test_the_exponent_of_a_dynamic_temperature() -> None:
    tempered = [p ** (1 / 1.224855) for p in P]
    expected = [p / sum(tempered) for p in tempered]
    assert distribution(P, dynatemp_range=0.5, dynatemp_exponent=2.0) == pytest.approx(expected, abs=2e-6)


def test_mirostat_2_follows_its_worked_example() -> None:
    fields = {"mirostat_mode": 2, "mirostat_tau": 2.0}
    found = distribution(P, {"mirostat_mu": [2.5]}, **fields)
    assert found == pytest.approx([0.615385, 0.384615, 0, 0, 0, 0], abs=1e-6)
    assert kept(P, {"mirostat_mu": [1.0]}, **fields) == [0]
    state = SamplerState(sampling(**fields))
    assert mu(state) == pytest.approx(4.0), "mu starts at 2 tau"
    state._states[0] = (2.5, 0.0)
    state.update([0], [math.log(0.384615)])
    assert mu(state) == pytest.approx(2.562149, abs=1e-5)


def test_mirostat_1_follows_its_worked_example() -> None:
    fields = {"mirostat_mode": 1, "mirostat_tau": 2.0}
    assert kept(P, {"mirostat_mu": [4.0]}, **fields) == [0, 1, 2, 3, 4, 5]
    assert kept(P, {"mirostat_mu": [2.0]}, **fields) == [0, 1]
    state = SamplerState(sampling(**fields))
    state._states[0] = (2.0, 0.0)
    state.update([0], [math.log(0.4 / 0.65)])
    assert mu(state) == pytest.approx(2.129956, abs=1e-5)


def mu(state: SamplerState) -> float:
    texts = Texts(torch.zeros((1, 1), dtype=torch.long), [1], 1)
    return float(state.parameters([0], texts)["mirostat_mu"])


def test_adaptive_p_follows_its_worked_example() -> None:
    fields = {"adaptive_target": 0.3}
    expected = [0.284509, 0.515947, 0.123647, 0.045487, 0.018700, 0.011708]
    assert distribution(P, {"adaptive_goal": [0.3]}, **fields) == pytest.approx(expected, abs=2e-6)
    state = SamplerState(sampling(**fields))
    texts = Texts(torch.zeros((1, 1), dtype=torch.long), [1], 1)
    assert float(state.parameters([7], texts)["adaptive_goal"]) == pytest.approx(0.3)
    state.update([7], [math.log(0.4)])
    assert state._states[7] == pytest.approx((3.1, 10.0))
    assert float(state.parameters([7], texts)["adaptive_goal"]) == pytest.approx(0.29)


def test_a_decaying_top_p_follows_its_worked_example() -> None:
    state = SamplerState(sampling(top_p=0.9, top_p_decay=0.9, top_p_min=0.3, top_p_reset_ids=[9]))
    expected = [0.9, 0.81, 0.729, 0.6561, 0.59049, 0.531441, 0.478297]
    for steps, value in enumerate(expected):
        assert float(state.parameters([0], text(steps * [1]))["top_p"]) == pytest.approx(value, abs=1e-6)
    assert float(state.parameters([0], text(12 * [1]))["top_p"]) == pytest.approx(0.3)
    assert float(state.parameters([0], text([1, 1, 9]))["top_p"]) == pytest.approx(0.9)
    assert float(state.parameters([0], text([9, 1, 1]))["top_p"]) == pytest.approx(0.729)


def text(output: list[int]) -> Texts:
    """A row with a prompt of one token that would reset."""
    return Texts(torch.tensor([[9, *output]]), [1], 1)


@pytest.mark.parametrize(
    ("p", "fields", "expected"),
    [
        ((0.1, 0.2, 0.3, 0.4), {"top_n_sigma": 1.0}, [0, 0, 0.428571, 0.571429]),
        ((0.1, 0.2, 0.3, 0.4), {"top_n_sigma": 3.0}, [0.1, 0.2, 0.3, 0.4]),
        ((0.1, 0.15, 0.2, 0.25, 0.3), {"p_less": True}, [0, 0, 0, 0.454545, 0.545455]),
        ((0.2,) * 5, {"p_less": True}, [0.2] * 5),
        ((0.1, 0.2, 0.3, 0.4), {"min_p": 0.26}, [0, 2 / 9, 3 / 9, 4 / 9]),
        ((0.4, 0.3, 0.2, 0.1), {"xtc_threshold": 0.09, "xtc_probability": 1.0}, [0, 0, 0, 1]),
        ((0.4, 0.3, 0.2, 0.1), {"xtc_threshold": 0.19, "xtc_probability": 1.0}, [0, 0, 2 / 3, 1 / 3]),
        ((0.4, 0.3, 0.2, 0.1), {"xtc_threshold": 0.29, "xtc_probability": 1.0}, [0, 0.5, 1 / 3, 1 / 6]),
        ((0.4, 0.3, 0.2, 0.1), {"xtc_threshold": 0.39, "xtc_probability": 1.0}, [0.4, 0.3, 0.2, 0.1]),
    ],
    ids=str,
)
def test_llama_cpps_expected_values(p: Any, fields: dict[str, Any], expected: list[float]) -> None:
    assert distribution(p, **fields) == pytest.approx(expected, abs=2e-6)


OFF: dict[str, dict[str, Any]] = {
    "dynatemp_range": {"dynatemp_range": 0.0, "temperature": 0.7},
    "edt_theta": {"edt_theta": 0.0, "temperature": 0.7},
    "smoothing_factor": {"smoothing_factor": 0.0, "temperature": 0.7},
    "top_a": {"top_a": 0.0, "temperature": 0.7},
    "p_less": {"p_less": False, "temperature": 0.7},
    "tfs": {"tfs": 1.0, "temperature": 0.7},
    "xtc_probability": {"xtc_probability": 0.0, "temperature": 0.7},
    "skew": {"skew": 0.0, "temperature": 0.7},
}

RESHAPE: dict[str, dict[str, Any]] = {
    "dynatemp": {"dynatemp_range": 0.5},
    "hot dynatemp": {"temperature": 1.5, "dynatemp_range": 1.0, "dynatemp_exponent": 0.5},
    "edt": {"edt_theta": 0.5, "temperature": 1.2},
    "smoothing": {"smoothing_factor": 0.25, "smoothing_curve": 1.5},
    "smoothing and temperature": {"smoothing_factor": 0.25, "temperature": 0.8},
    "xtc": {"xtc_probability": 0.5, "xtc_threshold": 0.1},
    "skew": {"skew": 0.5},
}

CUTS: dict[str, dict[str, Any]] = {
    "top_n_sigma": {"top_n_sigma": 1.0},
    "cool top_n_sigma": {"top_n_sigma": 1.0, "temperature": 0.5},
    "top_a": {"top_a": 0.2},
    "p_less": {"p_less": True},
    "p_less norm": {"p_less": "norm"},
    "hot p_less": {"p_less": True, "temperature": 1.3},
    "tfs": {"tfs": 0.95},
    "mirostat 2": {"mirostat_mode": 2},
    "mirostat 1": {"mirostat_mode": 1, "mirostat_tau": 3.0},
    "dynatemp top_p": {"dynatemp_range": 0.5, "top_p": 0.9},
    "smoothing min_p": {"smoothing_factor": 0.2, "min_p": 0.05},
    "smoothing p_less": {"smoothing_factor": 0.2, "p_less": True},
    "min_p xtc": {"min_p": 0.02, "xtc_probability": 0.5, "xtc_threshold": 0.1},
    "min_p adaptive": {"min_p": 0.02, "adaptive_target": 0.3},
    "top_p skew": {"top_p": 0.9, "skew": 0.3},
    "last": {"top_p": 0.9, "temperature": 0.6, "temperature_last": True},
    "last dynatemp": {"top_p": 0.9, "dynatemp_range": 0.5, "temperature_last": True},
    "ordered": {
        "temperature": 1.4,
        "top_k": 40,
        "min_p": 0.05,
        "xtc_probability": 0.5,
        "sampler_order": ["min_p", "top_k", "xtc", "temperature"],
    },
    "odd order": {
        "typical_p": 0.9,
        "top_k": 5,
        "top_n_sigma": 2.0,
        "sampler_order": ["typical_p", "top_k", "top_n_sigma"],
    },
}
ALL = {**RESHAPE, **CUTS}


def states_of(fields: Mapping[str, Any], rows: int) -> dict[str, list[float]]:
    state = SamplerState(sampling(**fields))
    if not state.updates:
        return {}
    texts = Texts(torch.zeros((1, 1), dtype=torch.long), [1], 1)
    return {name: column.tolist() * rows for name, column in state.parameters([0], texts).items()}


def random_logits(seed: int) -> torch.Tensor:
    """Rows from nearly flat to nearly certain, some with tokens that were removed before."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([0.01, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0])[:, None]
    logits = torch.randn(7, V, generator=generator) * spread
    logits[::3, ::7] = float("-inf")
    return logits


def run(name: str, logits: torch.Tensor) -> torch.Tensor:
    return sampled(logits, states_of(ALL[name], len(logits)), **ALL[name])


@pytest.mark.parametrize("name", OFF)
def test_values_that_are_off_change_nothing(name: str) -> None:
    logits = random_logits(0)
    assert torch.equal(sampled(logits, **OFF[name]), sampled(logits, temperature=0.7))


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_the_vocabulary_does_not_matter(name: str) -> None:
    logits = random_logits(1)
    order = torch.randperm(V, generator=torch.Generator().manual_seed(0))
    permuted, found = run(name, logits[:, order]).softmax(-1), run(name, logits).softmax(-1)
    differs = (permuted > 0) != (found[:, order] > 0)
    assert int(differs.sum(-1).max()) <= 1, "but for a sum's rounding at the threshold"
    torch.testing.assert_close(permuted[~differs], found[:, order][~differs], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_a_constant_added_to_all_logits_does_not_matter(name: str) -> None:
    logits = random_logits(2)
    moved, found = run(name, logits + 3.0).softmax(-1), run(name, logits).softmax(-1)
    differs = (moved > 0) != (found > 0)
    assert int(differs.sum(-1).max()) <= 1
    torch.testing.assert_close(moved[~differs], found[~differs], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", range(3))
def test_something_is_always_left_and_no_removed_token_comes_back(name: str, seed: int) -> None:
    logits = random_logits(seed)
    left = run(name, logits) > float("-inf")
    assert bool(left.any(-1).all())
    assert not bool((left & (logits == float("-inf"))).any())
    certain = torch.full((1, V), float("-inf"))
    certain[0, 17] = 2.0
    assert run(name, certain).softmax(-1)[0, 17] == 1.0


@pytest.mark.parametrize("name", ALL)
def test_with_others_in_one_call_as_alone(name: str) -> None:
    logits = random_logits(3)
    others = [settings(**fields) for fields in ({"top_p": 0.9}, {"temperature": 0.7, "top_k": 30}, ALL[name])]
    which = [2 if row % 2 else row // 2 % 2 for row in range(len(logits))]
    rows = [row for row, one in enumerate(which) if one == 2]
    values = {name: torch.tensor(v) for name, v in states_of(ALL[name], len(rows)).items()}
    states = [StateOfRows(rows, values)]
    together = dense(SamplerChain(others, "cpu")(Logits(logits), which, states), logits)
    alone = run(name, logits)
    assert torch.allclose(together[rows].softmax(-1), alone[rows].softmax(-1), atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_a_common_order_contains_every_order(seed: int) -> None:
    rng = random.Random(seed)
    orders = [rng.sample(DEFAULT_ORDER, rng.randrange(1, 9)) for _ in range(rng.randrange(1, 8))]
    places, turns = common_order(orders)
    assert [[places[turn] for turn in own] for own in turns] == orders
    assert all(own == sorted(own) for own in turns)
    assert {turn for own in turns for turn in own} == set(range(len(places))), "no place for nothing"


def test_orders_that_agree_need_no_place_twice() -> None:
    assert common_order([["temperature", "top_k", "min_p"], ["top_k", "top_p"]]) == (
        ["temperature", "top_k", "top_p", "min_p"],
        [[0, 1, 3], [1, 2]],
    )
    last = ["top_k", "top_p", "temperature"]
    places, _ = common_order([["temperature", "top_p"], last, last])
    assert places == ["temperature", "top_k", "top_p", "temperature"]


class TestIdentities:
    logits = random_logits(4)

    def same(self, first: torch.Tensor, second: torch.Tensor) -> None:
        torch.testing.assert_close(first.softmax(-1), second.softmax(-1), atol=1e-6, rtol=1e-4)

    @pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
    def test_top_n_sigma_keeps_the_same_at_every_temperature(self, temperature: float) -> None:
        plain = sampled(self.logits, top_n_sigma=1.5) > float("-inf")
        tempered = sampled(self.logits, top_n_sigma=1.5, temperature=temperature) > float("-inf")
        assert int((plain != tempered).sum()) <= 1

    def test_top_a_is_min_p_times_the_largest_probability(self) -> None:
        for row in self.logits[:, None]:
            p1 = float(row.softmax(-1).max())
            self.same(sampled(row, top_a=0.2), sampled(row, min_p=0.2 * p1))

    def test_a_step_of_mirostat_2_is_an_epsilon_cutoff(self) -> None:
        for mu in (1.0, 4.0, 9.0):
            states = {"mirostat_mu": [mu] * len(self.logits)}
            found = sampled(self.logits, states, mirostat_mode=2)
            self.same(found, sampled(self.logits, epsilon_cutoff=2**-mu))

    def test_a_step_of_mirostat_1_is_a_top_k(self) -> None:
        found = sampled(self.logits, {"mirostat_mu": [5.0] * 7}, mirostat_mode=1)
        for row, counted in enumerate((found > float("-inf")).sum(-1).tolist()):
            own = self.logits[row : row + 1]
            self.same(found[row : row + 1], sampled(own, top_k=counted))

    def test_mirostats_estimate_is_the_fit_of_its_paper(self) -> None:
        for row in range(1, 7):
            p = self.logits[row].double().softmax(-1).sort(descending=True).values[:100].tolist()
            t = [math.log((i + 2) / (i + 1)) for i in range(99)]
            b = [math.log(p[i] / p[i + 1]) for i in range(99)]
            s = sum(x * y for x, y in zip(t, b, strict=True)) / sum(x * x for x in t)
            e = s - 1
            k = (e * 2**6.0 / (1 - V**-e)) ** (1 / s)
            found = sampled(self.logits[row : row + 1], {"mirostat_mu": [6.0]}, mirostat_mode=1)
            expected = max(1, min(int(k), int((self.logits[row] > float("-inf")).sum())))
            assert abs(int((found > float("-inf")).sum()) - expected) <= 1 + expected // 1000

    def test_no_entropy_of_a_dynamic_temperature_is_its_lower_end(self) -> None:
        certain = torch.tensor([[50.0, 1.0, 0.0]])
        found = sampled(certain, dynatemp_range=0.4)
        self.same(found, sampled(certain, temperature=0.6))
        flat = torch.zeros(1, 8)
        assert torch.equal(sampled(flat, dynatemp_range=0.4).softmax(-1), flat.softmax(-1))

    def test_an_unlimited_range_is_greedy_where_the_model_is_sure(self) -> None:
        found = sampled(torch.tensor([[60.0, 30.0, 0.0]]), dynatemp_range=5.0)
        assert found.softmax(-1)[0].tolist() == [1.0, 0.0, 0.0]

    def test_a_mixture_is_that_of_both_draws(self) -> None:
        plain = self.logits.double().softmax(-1)
        cut = sampled(self.logits, xtc_probability=1.0, xtc_threshold=0.05).double().softmax(-1)
        mixed = sampled(self.logits, xtc_probability=0.3, xtc_threshold=0.05).double().softmax(-1)
        torch.testing.assert_close(mixed, 0.3 * cut + 0.7 * plain, atol=1e-6, rtol=1e-4)

    def test_a_temperature_after_xtc_mixes_both_ends_of_the_chain(self) -> None:
        """As if a coin had decided before: each branch has its own temperature."""
        order = {"sampler_order": ["min_p", "xtc", "temperature"], "min_p": 0.01, "xtc_threshold": 0.05}
        hot = {"temperature": 1.7, **order}
        with_cut = sampled(self.logits, xtc_probability=1.0, **hot).double().softmax(-1)
        plain = sampled(self.logits, min_p=0.01, temperature=1.7, temperature_last=True).double().softmax(-1)
        mixed = sampled(self.logits, xtc_probability=0.4, **hot).double().softmax(-1)
        torch.testing.assert_close(mixed, 0.4 * with_cut + 0.6 * plain, atol=1e-6, rtol=1e-4)

    def test_the_last_temperature_does_not_change_what_is_kept(self) -> None:
        last = sampled(self.logits, top_p=0.8, temperature=3.0, temperature_last=True)
        plain = sampled(self.logits, top_p=0.8)
        assert torch.equal(last > float("-inf"), plain > float("-inf"))
        self.same(last, plain / 3.0)

    def test_smoothing_keeps_the_order(self) -> None:
        for curve in (1.0, 2.0, 3.0):
            found = sampled(self.logits[1:], smoothing_factor=0.3, smoothing_curve=curve)
            ranked = found.gather(1, self.logits[1:].argsort(dim=-1, descending=True))
            ranked = ranked[:, :100].double()
            assert bool((ranked.diff(dim=-1) <= 1e-4).all())

    def test_the_sum_of_squares_is_reached_by_a_uniform_distribution(self) -> None:
        for size in (3, 5, 7, 1000):
            assert len(kept([1 / size] * size, p_less=True)) == size
