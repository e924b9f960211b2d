"""Green lists, tournament bits and keyed noise: equal to torch's and transformers' own, and by their laws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest
from transformers import SynthIDTextWatermarkingConfig, WatermarkDetector, WatermarkingConfig
from transformers.generation.logits_process import WatermarkLogitsProcessor

from harness.analysis.metrics.watermark_law import gumbel_values, kgw_values, synthid_values
from harness.analysis.metrics.watermark_scores import watermark_scores
from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.config.watermark_kinds import MarkDetector, detector_of
from harness.decoding.green_lists import GreenBias
from harness.decoding.green_numpy import is_first
from harness.decoding.gumbel import draw
from harness.decoding.keyed_noise import KeyedNoise
from harness.decoding.synthid import SynthId
from harness.decoding.synthid_numpy import random_bits
from harness.decoding.texts import Texts

V = 499
KEYS = (654, 400, 836, 123, 340, 443)


def detector(vocabulary: int = V, **fields: Any) -> MarkDetector:
    found = detector_of(effective_decoding(Decoding(name="x", **fields)), vocabulary)
    assert found is not None
    return found


def random_ids(length: int, seed: int = 0, vocabulary: int = V) -> list[int]:
    return np.random.default_rng(seed).integers(0, vocabulary, length).tolist()


def test_one_token_is_in_torchs_permutation() -> None:
    generator = np.random.default_rng(1)
    for _ in range(400):
        count = int(generator.integers(2, 40))
        first, item = int(generator.integers(0, count + 1)), int(generator.integers(0, count))
        seed = int(generator.integers(0, 2**62))
        permuted = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:first]
        assert is_first(seed, count, first, item) == (item in permuted.tolist())


@pytest.mark.parametrize(("seed", "size"), [(0, 65536), (2**31 - 1, 1000)])
def test_the_table_of_bits_is_torchs(seed: int, size: int) -> None:
    expected = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(seed))
    assert random_bits(seed, size).tolist() == expected.tolist()


SCHEMES = [("lefthash", 1), ("selfhash", 1), ("selfhash", 4)]


@pytest.mark.parametrize(("scheme", "width"), SCHEMES)
def test_green_tokens_and_their_score_are_transformers(scheme: str, width: int) -> None:
    stock = WatermarkingConfig(
        bias=2.5, seeding_scheme=scheme, context_width=width, greenlist_ratio=0.3, hashing_key=77_777_777
    )
    fields: dict[str, Any] = {
        "kgw_bias": 2.5,
        "kgw_seeding_scheme": scheme,
        "kgw_context_width": width,
        "kgw_greenlist_ratio": 0.3,
        "kgw_hashing_key": 77_777_777,
    }
    ids, scores = torch.tensor([random_ids(12, seed) for seed in range(4)]), torch.randn(4, V)
    scores[1, 50:] = -math.inf
    processor = WatermarkLogitsProcessor(V, "cpu", **stock.to_dict())
    found = GreenBias(fields)(Texts(ids, [5, 5, 5, 5], 5), scores)
    assert torch.equal(found, processor(ids, scores))
    short = GreenBias(fields)(Texts(ids[:1, :5], [2], 5), scores[:1])
    assert torch.equal(short, processor(ids[:1, 3:5], scores[:1])), "padding is not read"
    config = type("Config", (), {"bos_token_id": -1, "is_encoder_decoder": False, "vocab_size": V})()
    detect = WatermarkDetector(config, "cpu", stock, ignore_repeated_ngrams=True)
    text = [*random_ids(60), *random_ids(30)]  # repeated n-grams count once
    expected = detect(torch.tensor([text]), return_dict=True)
    ours = watermark_scores(detector(**fields), text)
    assert ours["kgw_z"] == pytest.approx(float(expected.z_score[0]))
    assert ours["kgw_green_share"] == pytest.approx(float(expected.green_fraction[0]))


@pytest.mark.parametrize(
    "more", [{}, {"skip_first_ngram_calls": True}, {"context_history_size": 3}, {"sampling_table_size": 1000}]
)
def test_the_tournament_is_transformers(more: dict[str, Any]) -> None:
    """Step by step along a text whose contexts come again; the bits that are detected too."""
    stock = SynthIDTextWatermarkingConfig(ngram_len=3, keys=list(KEYS), **more).construct_processor(V, "cpu")
    fields = {"synthid_ngram_len": 3, "synthid_keys": KEYS, **{f"synthid_{k}": v for k, v in more.items()}}
    settings = {
        "synthid_context_history_size": 1024,
        "synthid_sampling_table_seed": 0,
        "synthid_sampling_table_size": 65536,
        **fields,
    }
    prompt, output = random_ids(7, 3), [5, 6, 7, 5, 6, 9, 8, 7, 5, 6, 1]
    marked = 0
    for step in range(len(output)):
        ids, scores = torch.tensor([[*prompt, *output[:step]]]), torch.randn(1, V)
        scores[0, 100 + step :] = -math.inf
        found = SynthId(settings)(Texts(ids, [7], 7), scores)
        expected = stock(ids, scores)
        marked += not torch.equal(found, scores)
        assert torch.allclose(found.softmax(-1), expected.softmax(-1), atol=0, rtol=1e-6)
        assert torch.equal(found > -math.inf, scores > -math.inf), "no token is removed"
    assert 3 < marked < len(output)
    whole = torch.tensor([output])
    kept = stock.compute_context_repetition_mask(whole)[0].bool()
    expected_bits = stock.compute_g_values(whole)[0][kept].numpy()
    scores_of = watermark_scores(detector(**fields), output)
    assert scores_of["synthid_mean_g"] == pytest.approx(float(expected_bits.mean()))


def test_the_tournament_keeps_the_law_on_average_over_keys() -> None:
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    settings = {
        "synthid_ngram_len": 2,
        "synthid_context_history_size": 8,
        "synthid_sampling_table_seed": 0,
        "synthid_sampling_table_size": 65536,
    }
    texts = Texts(torch.tensor([[3]]), [1], 1)
    keys = np.random.default_rng(0).integers(1, 2**31, 3000)
    marked = [SynthId({**settings, "synthid_keys": [int(k)]})(texts, p.log()[None])[0].exp() for k in keys]
    error = torch.stack(marked).std(0) / math.sqrt(len(marked))
    assert bool(((torch.stack(marked).mean(0) - p).abs() < 4.5 * error).all())


def noise(width: int = 2, key: int = 9) -> KeyedNoise:
    return KeyedNoise({"gumbel_key": key, "gumbel_context_width": width})


def test_keyed_noise_is_a_function_of_the_last_tokens_until_they_come_again() -> None:
    keyed = noise()
    first = keyed.key([4, 5, 6], 3)
    assert first == keyed.key([9, 9, 9, 5, 6], 3)
    assert first != noise(key=10).key([4, 5, 6], 3)
    assert first == noise(3).key([5, 6], 2), "a shorter prompt is all of the context"
    assert keyed.key([4, 5, 6, 5, 6], 3) is None, "the end of the prompt was a context"
    assert keyed.key([5, 6, 4, 5, 6], 4) is not None, "the middle of the prompt was none"
    pad = 5  # with the 6 after it, it would be the context
    texts = Texts(torch.tensor([[pad, pad, 6, 5, 6], [4, 5, 6, 5, 6]]), [1, 3], 3)
    found = keyed.keys(texts, [11, 12])
    assert found[1] == 12
    logits = torch.zeros(1, 50)
    keys = torch.tensor([found[0], first])
    assert draw(logits, keys[:1], 2).tolist() == draw(logits, keys[1:], 0).tolist(), "of no step"


def test_draws_with_keyed_noise_have_the_law_and_are_found() -> None:
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    contexts = np.random.default_rng(5).integers(0, 2**31, (4000, 2)).tolist()
    keys = [noise().key(context, 2) for context in contexts]
    tokens = draw(p.log().expand(4000, 4), torch.tensor(keys), 0)
    observed = torch.bincount(tokens, minlength=4).numpy()
    assert chisquare(observed, 4000 * p.numpy()).pvalue > 1e-4
    marked = [noise().detected([*c, t])[0] for c, t in zip(contexts, tokens.tolist(), strict=True)]
    by_chance = [noise(key=8).detected([*c, t])[0] for c, t in zip(contexts, tokens.tolist(), strict=True)]
    assert kstest(by_chance, "expon").pvalue > 1e-4
    # E[-ln(1 - u)] of the chosen token is the sum of p H(1 / p), H the harmonic number.
    harmonic = [float(torch.special.digamma(1 / q + 1) + np.euler_gamma) for q in p]
    assert np.mean(marked) == pytest.approx(float((p.numpy() * harmonic).sum()), abs=0.1)


def test_the_laws_by_hand() -> None:
    values = kgw_values(7, 10, 0.5)
    assert values["kgw_z"] == pytest.approx(2 / math.sqrt(2.5))
    assert values["kgw_p_value"] == pytest.approx((120 + 45 + 10 + 1) / 1024)
    assert values["kgw_detected"] == 0.0
    assert kgw_values(10, 10, 0.5)["kgw_detected"] == 1.0
    one = gumbel_values(np.array([3.0]))
    assert one["gumbel_p_value"] == pytest.approx(math.exp(-3))
    two = gumbel_values(np.array([3.0, 5.0]))
    assert two["gumbel_p_value"] == pytest.approx(math.exp(-8) * 9)  # of Gamma(2): e^-x (1 + x)
    assert two["gumbel_z"] == pytest.approx(6 / math.sqrt(2))
    bits = synthid_values(np.array([[1, 0], [1, 1]]))
    assert bits["synthid_weighted_g"] == pytest.approx((10 / 11 + 1) / 2)
    deviation = math.sqrt((100 + 1) / 121 / 8)
    assert bits["synthid_z"] == pytest.approx((10 / 11) / 2 / deviation)
    assert kgw_values(0, 0, 0.5) == {}


@pytest.mark.parametrize(
    "fields", [{"kgw_bias": 2.0}, {"synthid_keys": KEYS}, {"gumbel_key": 5, "do_sample": True}]
)
def test_what_is_not_marked_is_seldom_found(fields: dict[str, Any]) -> None:
    """z of random texts is centred, and p-values are uniform where they are continuous."""
    one = detector(vocabulary=1999, **fields)
    columns = [watermark_scores(one, random_ids(80, seed, 1999)) for seed in range(120)]
    (name,) = {key.removesuffix("_p_value") for key in columns[0] if key.endswith("_p_value")}
    assert np.mean([values[f"{name}_detected"] for values in columns]) < 0.05
    z = [values[f"{name}_z"] for values in columns]
    assert abs(np.mean(z)) < 4.5 / math.sqrt(120)
    assert 0.8 < np.std(z) < 1.2
    if name == "gumbel":
        assert kstest([values[f"{name}_p_value"] for values in columns], "uniform").pvalue > 1e-4
    assert watermark_scores(one, [3]) == {}
