"""What is sampled: exact frequencies, independence of the batch, and where a sample ends."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
import torch
from packaging.version import Version
from scipy import stats

from harness.backends.backend import Request
from harness.backends.hf.beams import beam_search
from harness.backends.hf.padded_batch import find_end
from harness.backends.hf.stock_generate import stock_generate
from harness.decoding.detokenizer import Detokenizer


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def keep(p: np.ndarray, kept: np.ndarray) -> np.ndarray:
    q = np.where(kept, p, 0.0)
    return q / q.sum()


# Each truncation as its paper defines it, on the distribution p; the reference for the frequencies.
def top_k(p: np.ndarray, k: int) -> np.ndarray:
    return keep(p, p >= np.sort(p)[-k])


def top_p(p: np.ndarray, mass: float) -> np.ndarray:
    order = np.argsort(-p)
    kept = np.zeros(len(p), bool)
    kept[order[: int(np.searchsorted(np.cumsum(p[order]), mass)) + 1]] = True
    return keep(p, kept)


def min_p(p: np.ndarray, share: float) -> np.ndarray:
    return keep(p, p >= share * p.max())


def typical(p: np.ndarray, mass: float) -> np.ndarray:
    information = -np.log(p)
    order = np.argsort(np.abs(information - (p * information).sum()))
    kept = np.zeros(len(p), bool)
    kept[order[: int(np.searchsorted(np.cumsum(p[order]), mass)) + 1]] = True
    return keep(p, kept)


def epsilon(p: np.ndarray, cutoff: float) -> np.ndarray:
    return keep(p, p >= cutoff)


def eta(p: np.ndarray, cutoff: float) -> np.ndarray:
    entropy = -(p * np.log(p)).sum()
    return keep(p, p >= min(cutoff, np.sqrt(cutoff) * np.exp(-entropy)))


def top_h(p: np.ndarray, share: float) -> np.ndarray:
    """Likeliest first, while their contribution to the entropy of the 100 likeliest is within its share."""
    order = np.argsort(-p)[:100]
    head = p[order] / p[order].sum()
    terms = -head * np.log(head)
    kept = np.zeros(len(p), bool)
    kept[order[np.cumsum(terms) <= share * terms.sum()]] = True
    kept[order[0]] = True
    return keep(p, kept)


def flattest(loaded: Any, prompts: list) -> tuple[Any, np.ndarray]:
    """The prompt with the flattest next-token distribution, and its logits in float64."""
    found = []
    for prompt in prompts:
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([prompt.ids])).logits[0, -1].double().numpy()
        p = softmax(logits)
        found.append((-(p * np.log(p)).sum(), prompt, logits))
    _, prompt, logits = max(found, key=lambda entry: entry[0])
    return prompt, logits


CASES = {
    "temperature": ({"temperature": 0.7}, lambda logits: softmax(logits / 0.7)),
    "top_k": ({"top_k": 6}, lambda logits: top_k(softmax(logits), 6)),
    "top_p": ({"top_p": 0.8}, lambda logits: top_p(softmax(logits), 0.8)),
    "min_p": ({"min_p": 0.05}, lambda logits: min_p(softmax(logits), 0.05)),
    "typical": ({"typical_p": 0.8}, lambda logits: typical(softmax(logits), 0.8)),
    "epsilon": ({"epsilon_cutoff": 0.02}, lambda logits: epsilon(softmax(logits), 0.02)),
    "eta": ({"eta_cutoff": 0.02}, lambda logits: eta(softmax(logits), 0.02)),
    "top_h": ({"top_h": 0.6}, lambda logits: top_h(softmax(logits), 0.6)),
    "temperature and top_p": (
        {"temperature": 1.5, "top_p": 0.7},
        lambda logits: top_p(softmax(logits / 1.5), 0.7),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_frequencies_are_those_of_the_warped_distribution(
    case: str, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    fields, exact = CASES[case]
    loaded = loaded_model("llama")
    prompt, logits = flattest(loaded, prompts_of(loaded))
    n = 3000
    strategy = strategy_of(loaded, do_sample=True, max_new_tokens=1, record_top_k=1, **fields)
    requests = [Request(prompt, sample, strategy) for sample in range(n)]
    drawn = [s.token_ids[0] for s in stock_generate(loaded, requests, Detokenizer(loaded.tokenizer))]
    expected = exact(logits) * n
    counts = np.bincount(drawn, minlength=len(expected))
    assert counts[expected == 0].sum() == 0
    assert (expected > 0).sum() > 2
    # Rare tokens share a bin, as the chi-square test wants expected counts of five.
    rare = (expected < 5) & (expected > 0)
    observed, wanted = list(counts[expected >= 5]), list(expected[expected >= 5])
    if expected[rare].sum() > 0.5:
        observed.append(counts[rare].sum())
        wanted.append(expected[rare].sum())
    assert stats.chisquare(observed, np.array(wanted) * sum(observed) / sum(wanted)).pvalue > 1e-3


def test_frequencies_of_beam_sampling(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """One step of two beams: four tokens are drawn without replacement, and one of them is the likeliest.

    Of all four since transformers 5.24, which sorts them; before that of the first two.
    """
    loaded = loaded_model("llama")
    prompt, logits = flattest(loaded, prompts_of(loaded))
    strategy = strategy_of(loaded, do_sample=True, num_beams=2, max_new_tokens=1, temperature=2.0)
    detokenizer = Detokenizer(loaded.tokenizer)
    n = 300
    requests = [Request(prompt, sample, strategy) for sample in range(n)]
    drawn = [beam_search(loaded, [request], detokenizer)[0].token_ids[0] for request in requests]
    # Drawing without replacement is taking the top of log p + Gumbel noise, in its order.
    rng = np.random.default_rng(0)
    noisy = logits / 2.0 + rng.gumbel(size=(20_000, len(logits)))
    compared = 4 if Version(version("transformers")) >= Version("5.24") else 2
    candidates = np.argpartition(-noisy, compared - 1, axis=1)[:, :compared]
    best = candidates[np.arange(len(candidates)), logits[candidates].argmax(1)]
    expected = np.bincount(best, minlength=len(logits)) / len(best) * n
    counts = np.bincount(drawn, minlength=len(logits))
    common = expected >= 5
    observed = [*counts[common], counts[~common].sum()]
    wanted = np.array([*expected[common], expected[~common].sum()])
    assert stats.chisquare(observed, wanted * sum(observed) / wanted.sum()).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gpt2"])
def test_a_sample_does_not_depend_on_batch_or_order(
    kind: str, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model(kind)
    detokenizer = Detokenizer(loaded.tokenizer)

    def requests_of(**fields: Any) -> list[Request]:
        strategy = strategy_of(loaded, do_sample=True, **fields)
        return [Request(prompt, sample, strategy) for prompt in prompts_of(loaded) for sample in range(2)]

    def run(requests: list[Request]) -> list[Any]:
        return [sample.token_ids for sample in stock_generate(loaded, requests, detokenizer)]

    for fields in ({"top_p": 0.9}, {"temperature": 1.3, "repetition_penalty": 1.3}):
        requests = requests_of(**fields)
        ids = run(requests)
        assert ids == run(requests[::-1])[::-1] == [run([request])[0] for request in requests]
        assert len(set(ids[::2])) == len(ids) // 2
        assert any(a != b for a, b in zip(ids[::2], ids[1::2], strict=True)), "samples of a prompt differ"
    assert run(requests_of(seed=1)) != run(requests_of(seed=0))


def test_the_global_generator_is_neither_used_nor_changed(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    detokenizer = Detokenizer(loaded.tokenizer)
    for run, fields in ((stock_generate, {}), (beam_search, {"num_beams": 2})):
        requests = [Request(prompts_of(loaded)[0], 0, strategy_of(loaded, do_sample=True, **fields))]
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = run(loaded, requests, detokenizer)[0].token_ids
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        assert run(loaded, requests, detokenizer)[0].token_ids == first


def test_ends(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("llama")
    detokenizer = Detokenizer(loaded.tokenizer)
    eos = loaded.tokenizer.eos_token_id
    hot = {"do_sample": True, "temperature": 3.0, "max_new_tokens": 60}

    def requests_of(strategy: Any) -> list[Request]:
        return [Request(prompt, sample, strategy) for prompt in prompts_of(loaded) for sample in range(6)]

    requests = requests_of(strategy_of(loaded, **hot))
    samples = stock_generate(loaded, requests, detokenizer)
    assert {sample.finish_reason for sample in samples} == {"eos", "length"}
    for request, sample in zip(requests, samples, strict=True):
        assert len(sample.steps) == len(sample.token_ids) <= 60
        if sample.finish_reason == "eos":
            assert sample.token_ids.index(eos) == len(sample.token_ids) - 1
            text = detokenizer.output_text(request.prompt.ids, sample.token_ids)
            assert text.token_texts[-1] == ""
        else:
            assert eos not in sample.token_ids
            assert len(sample.token_ids) == 60
    unending = stock_generate(loaded, requests_of(strategy_of(loaded, ends=False, **hot)), detokenizer)
    assert all(len(sample.token_ids) == 60 for sample in unending)
    assert all(sample.finish_reason == "length" for sample in unending)
    for short, long in zip(samples, unending, strict=True):
        assert long.token_ids[: len(short.token_ids)] == short.token_ids


@pytest.mark.parametrize("beams", [1, 2])
def test_stop_strings(beams: int, loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("llama")
    detokenizer = Detokenizer(loaded.tokenizer)
    prompts = prompts_of(loaded)

    def run(**fields: Any) -> list[Any]:
        strategy = strategy_of(loaded, num_beams=beams, **fields)
        requests = [Request(prompt, 0, strategy) for prompt in prompts]
        return (beam_search if beams > 1 else stock_generate)(loaded, requests, detokenizer)

    free = run()
    full = [
        detokenizer.output(prompt.ids, sample.token_ids) for prompt, sample in zip(prompts, free, strict=True)
    ]
    stop = full[0][4:7]  # may begin and end inside tokens
    stopped = run(stop_strings=(stop,))
    output = detokenizer.output(prompts[0].ids, stopped[0].token_ids)
    assert stop in output
    assert stopped[0].finish_reason == "stop_string"
    assert stop not in detokenizer.output(prompts[0].ids, stopped[0].token_ids[:-1])
    if beams == 1:
        assert output == full[0][: len(output)]
        for before, after, text in zip(free, stopped, full, strict=True):
            if stop not in text:
                assert after.token_ids == before.token_ids


def test_find_end() -> None:
    def never(_: Any) -> bool:
        return False

    assert find_end([5, 6, 2, 0, 0], [2], never) == (3, "eos")
    assert find_end([5, 6, 7], [2], never) == (3, "length")
    assert find_end([5, 6, 7, 8, 2], [2], lambda ids: 6 in ids) == (2, "stop_string")
    assert find_end([5, 2], [2], never) == (2, "eos")
    assert find_end([2], [2, 3], never) == (1, "eos")
