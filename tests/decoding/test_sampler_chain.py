"""Truncations that look at the top tokens keep what transformers' warpers keep of the whole vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sampled import dense, sampled, sampling, settings
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel
from transformers.generation import logits_process as stock

from harness.backends.steps.recorder import Recorder
from harness.decoding import logits as logits_module
from harness.decoding.gumbel import draw, noise_key
from harness.decoding.logits import SHARED_TOP, Logits
from harness.decoding.processors import stock_processors
from harness.decoding.row_blocks import group_maxima
from harness.decoding.sampler_chain import SamplerChain
from harness.decoding.sampler_settings import sampler_settings
from harness.decoding.top_tokens import top_tokens

V = 5003
ROUNDING = 5e-6
CASES: dict[str, dict[str, Any]] = {
    **{f"top_k {k}": {"top_k": k} for k in (1, 5, 63, 64, 65, 1023, 3000, V + 5)},
    **{f"top_p {p}": {"top_p": p} for p in (0.0, 0.05, 0.5, 0.9, 0.99, 0.9999)},
    **{f"min_p {p}": {"min_p": p} for p in (0.0, 0.02, 0.3, 1.0)},
    **{f"typical {p}": {"typical_p": p} for p in (0.05, 0.5, 0.9, 0.99, 0.9999)},
    **{f"epsilon {e}": {"epsilon_cutoff": e} for e in (1e-5, 3e-4, 0.02, 0.9)},
    **{f"top_h {h}": {"top_h": h} for h in (0.05, 0.4, 1.0)},
    **{f"temperature {t}": {"temperature": t} for t in (0.3, 1.7)},
    "hot top_h": {"temperature": 1.4, "top_h": 0.4},
    **{f"eta {e}": {"eta_cutoff": e} for e in (1e-5, 3e-4, 0.02, 0.9)},
    "hot top_p": {"temperature": 1.4, "top_p": 0.9},
    "cool typical": {"temperature": 0.6, "typical_p": 0.9},
    "hot min_p": {"temperature": 1.4, "min_p": 0.05},
    "cool eta": {"temperature": 0.6, "eta_cutoff": 1e-3},
    "top_k, then top_p": {"temperature": 0.6, "top_k": 50, "top_p": 0.9},
    "all of them": {
        "temperature": 1.4,
        "top_h": 0.9,
        "top_k": 60,
        "top_p": 0.99,
        "min_p": 0.001,
        "typical_p": 0.95,
        "epsilon_cutoff": 1e-3,
        "eta_cutoff": 1e-2,
    },
}
MODEL = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1, n_positions=8))
"""Only asked how `generate` builds its processors."""


def stock_list(fields: dict[str, Any]) -> list[Any]:
    return list(stock_processors(MODEL, GenerationConfig(**sampling(**fields)), 1, "cpu"))


def stock_logits(fields: dict[str, Any], logits: torch.Tensor) -> torch.Tensor:
    for warper in stock_list(fields):
        logits = warper(None, logits)
    return logits


def random_logits(seed: int) -> torch.Tensor:
    """Rows from nearly certain to nearly flat, some with tokens that were removed before."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([0.01, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 20.0])[:, None]
    logits = torch.randn(8, V, generator=generator) * spread
    logits[::3, ::7] = float("-inf")
    return logits


def assert_same(found: torch.Tensor, expected: torch.Tensor, logits: torch.Tensor) -> None:
    """Equal, but for what is within float32's rounding of the threshold: one token, or tokens whose
    probability is no more than that."""
    differs = found.isfinite() != expected.isfinite()
    mass = (logits.double().softmax(-1) * differs).sum(-1)
    assert bool(((differs.sum(-1) <= 1) | (mass < ROUNDING)).all())
    assert torch.equal(found[~differs], expected[~differs])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_random_logits(name: str, seed: int) -> None:
    logits = random_logits(seed)
    before = logits.clone()
    assert_same(sampled(logits, **CASES[name]), stock_logits(CASES[name], logits), logits)
    assert torch.equal(logits, before), "the logits that came in are not changed"


@pytest.mark.parametrize("seed", range(3))
def test_all_strategies_together_equal_each_alone(seed: int) -> None:
    logits, cases = random_logits(seed), list(CASES.values())
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(cases), (200,), generator=generator).tolist()
    rows = torch.randint(len(logits), (200,), generator=generator)
    chain = SamplerChain([settings(**fields) for fields in cases], "cpu")
    together = dense(chain(Logits(logits).select(rows), which), logits)
    for index, (case, row) in enumerate(zip(which, rows.tolist(), strict=True)):
        own = logits[row : row + 1]
        assert_same(together[index : index + 1], stock_logits(cases[case], own), own)
        assert_same(together[index : index + 1], sampled(own, **cases[case]), own)


@pytest.mark.parametrize(
    ("name", "row", "most"),
    [
        ("top_p 0.9", 7, SHARED_TOP),
        ("typical 0.9", 7, SHARED_TOP),
        ("eta 0.02", 6, SHARED_TOP),
        ("tfs 0.9", 7, SHARED_TOP),
        ("top_k 1023", 2, V),
        ("top_p 0.9", 0, V),
        ("tfs 0.9", 0, V),
    ],
)
def test_few_tokens_decide_peaked_distributions(
    name: str, row: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only flat rows need the whole vocabulary; so the tests above cover the top tokens too."""
    counts = []

    def counted(values: torch.Tensor, maxima: torch.Tensor, count: int) -> Any:
        counts.append(count)
        return top_tokens(values, maxima, count)

    monkeypatch.setattr(logits_module, "top_tokens", counted)
    fields = CASES.get(name, {"tfs": 0.9})
    SamplerChain([settings(**fields)], "cpu")(Logits(random_logits(1)[row : row + 1]), [0])
    assert max(counts) == most


@pytest.mark.parametrize("name", ["top_p 0.99", "typical 0.9", "hot min_p", "top_k 1023", "epsilon 1e-05"])
def test_a_large_vocabulary_is_looked_at_in_steps(name: str) -> None:
    """Rows of every flatness, so that each of the numbers of top tokens decides some."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn((12, 10_007), generator=generator) * torch.linspace(0.3, 8.0, 12)[:, None]
    assert_same(sampled(logits, **CASES[name]), stock_logits(CASES[name], logits), logits)


@pytest.mark.parametrize("share", [0.3, 0.95])
def test_ties_keep_as_many(share: float) -> None:
    logits = torch.zeros(2, V)
    logits[:, :10] = 15.0
    logits[1, 10:20] = 14.0
    for fields in ({"top_p": share}, {"typical_p": share}):
        found = sampled(logits, **fields)
        assert torch.equal(found.isfinite().sum(-1), stock_logits(fields, logits).isfinite().sum(-1))


def test_all_ties_with_the_kth_token_are_kept() -> None:
    logits = torch.zeros(1, V)
    logits[0, 100:180] = 1.0
    for k in (3, 90):
        assert torch.equal(sampled(logits, top_k=k), stock_logits({"top_k": k}, logits))


@pytest.mark.parametrize("fields", [{"top_p": 0.01}, {"epsilon_cutoff": 0.9}], ids=str)
def test_the_likeliest_token_is_kept(fields: dict[str, Any]) -> None:
    logits = torch.zeros(1, V)
    logits[0, 3] = 30.0
    assert sampled(logits, **fields).isfinite().nonzero().tolist() == [[0, 3]]


def test_which_strategies_have_samplers() -> None:
    hot = {"temperature": 1.4, "top_p": 0.5}
    assert settings(repetition_penalty=1.2, **hot).order == ("temperature", "top_p")
    assert settings(temperature=1.4).cuts == (), "a temperature removes nothing"
    assert sampler_settings(sampling()) is None
    assert sampler_settings(sampling(top_p=0.5, do_sample=False)) is None
    assert sampler_settings(sampling(top_p=0.5, num_beams=2)) is None, "beams keep at least two tokens"
    assert settings(top_h=0.5, **hot).order == ("temperature", "top_h", "top_p"), "as transformers has them"
    assert settings(min_p=0.0).order == ("min_p",)


@pytest.mark.parametrize("name", CASES)
def test_the_stock_list_has_a_warper_for_each_field_and_no_other(name: str) -> None:
    """So that a sampler acts where transformers has a warper, and only there."""
    assert len(stock_list(CASES[name])) == len(CASES[name])
    assert all(getattr(warper, "min_tokens_to_keep", 1) == 1 for warper in stock_list(CASES[name]))
    assert all(isinstance(warper, stock.LogitsProcessor) for warper in stock_list(CASES[name]))


@pytest.mark.parametrize("name", CASES)
def test_a_nan_distribution_breaks_no_other(name: str) -> None:
    logits = random_logits(0)
    logits[2] = float("nan")
    found, others = sampled(logits, **CASES[name]), [0, 1, 3, 4, 5, 6, 7]
    assert not found[2].isfinite().any()
    assert_same(found[others], stock_logits(CASES[name], logits[others]), logits[others])


@pytest.mark.parametrize("vocabulary", [1, 9, 100, 1024, 2050, 2105, V, 17_001])
@pytest.mark.parametrize("count", [0, 1, 5, 64])
def test_top_tokens_equal_a_sort(vocabulary: int, count: int) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    count = min(count, vocabulary)
    logits = torch.randn(6, vocabulary, generator=generator)
    logits[1] = logits[1].round()  # many ties
    logits[2, 1:] = float("-inf")
    logits[3] = logits[3].sort().values
    found = top_tokens(logits, group_maxima(logits), count)
    assert torch.equal(found.logits, logits.sort(descending=True).values[:, :count])
    assert torch.equal(logits.gather(1, found.tokens), found.logits)
    for row in found.tokens.tolist():
        assert len(set(row)) == count, "none twice"


def test_selected_rows_share_what_was_computed() -> None:
    logits, index = random_logits(1), torch.tensor([5, 0, 2, 0])
    known = Logits(logits)
    known.log_total()
    for shared in (Logits(logits), known):
        some = shared.select(index)
        alone = logits[index].double()
        torch.testing.assert_close(
            some.log_total().double(), alone.logsumexp(-1, keepdim=True), atol=1e-5, rtol=1e-6
        )
        entropy = torch.special.entr(alone.softmax(-1)).sum(-1, keepdim=True)
        torch.testing.assert_close(some.entropy().double(), entropy, atol=1e-4, rtol=1e-5)
        assert torch.equal(some.values, logits[index])
        again = torch.tensor([3, 0])
        assert torch.equal(some.select(again).values, logits[index[again]])
        assert torch.equal(some.select(again).log_total(), some.log_total()[again])
        for count in (3, 64, 200):
            assert torch.equal(some.top(count).logits, logits[index].topk(count).values)


@pytest.mark.parametrize("name", ["top_k 5", "hot top_p", "min_p 0.3", "all of them", "typical 0.5"])
@pytest.mark.parametrize("step", [0, 5])
def test_draws_and_records_equal_those_of_all_logits(name: str, step: int) -> None:
    logits = random_logits(2)[[5, 6, 7, 5]]
    logits[logits == float("-inf")] = -40.0
    groups = SamplerChain([settings(**CASES[name])], "cpu")(Logits(logits), [0] * len(logits))
    warped = dense(groups, logits)
    for group, kept, _ in groups:
        # Two sequences are at the last row.
        kept_rows = torch.tensor([*range(len(group)), len(group) - 1])
        rows = torch.tensor(group)[kept_rows]
        keys = torch.tensor([noise_key(0, f"p{number}", 0) for number in range(len(kept_rows))])
        tokens = draw(warped[rows], keys, step)
        assert torch.equal(draw(kept.select(kept_rows), keys, step), tokens)
        recorded = []
        for logits_drawn_from in (warped[group], kept):
            recorder = Recorder(5)
            raw = recorder.begin_step(logits)
            recorder.observe(range(len(kept_rows)), raw, rows, tokens, logits_drawn_from, kept_rows)
            recorder.end_step(raw)
            found = recorder.finish()
            recorded.append([found.steps(number, 1, 5) for number in range(len(kept_rows))])
        for one, other in zip(*recorded, strict=True):
            for field, values in one.numbers().items():
                np.testing.assert_allclose(values, getattr(other, field), atol=1e-5, err_msg=field)
