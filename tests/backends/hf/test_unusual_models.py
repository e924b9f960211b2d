"""Architectures with unusual caches: every number equals one plain forward pass, or the model is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from transformers import GenerationConfig
from unusual_models import CONFIGS, REFUSED, make_unusual_model

from harness.backends.backend import Failure, Request
from harness.backends.hf.backend import HfBackend
from harness.config.point import Engine, Model, Quantization, Timing
from harness.errors import HarnessError
from harness.models.load import LoadedModel, load
from harness.progress import SILENT
from harness.prompts.passages import Passage
from harness.prompts.prompt import Prompt
from harness.store.records import Sample

LENGTHS = (13, 4, 22, 13, 2, 9)
CLOSE = 1e-3


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Callable[..., HfBackend]:
    """`opened("Rwkv")`: the backend of a small random model of that architecture."""
    root = tmp_path_factory.mktemp("unusual")
    folder = cache(lambda name: make_unusual_model(root / name, name))

    @cache
    def backend(name: str, dtype: Literal["float32", "bfloat16", "float16"] = "float32") -> HfBackend:
        model = Model(name=name, id=str(folder(name)), device="cpu")
        return HfBackend(load(model, Quantization(name=dtype, dtype=dtype)))

    return backend


def log_p_alone(loaded: LoadedModel, ids: tuple[int, ...]) -> torch.Tensor:
    """Return (N - 1, V): what one pass over a text alone, without a cache, gives of each next token."""
    with torch.inference_mode():
        return loaded.model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)


def prompts() -> list[Prompt]:
    generator = torch.Generator().manual_seed(11)
    return [
        Prompt(f"p{index}", "", tuple(torch.randint(3, 300, (length,), generator=generator).tolist()))
        for index, length in enumerate(LENGTHS)
    ]


def check_sample(loaded: LoadedModel, prompt: Prompt, sample: Sample, *, greedy: bool) -> None:
    """Compare everything that is recorded of a sample's raw distributions with the model alone."""
    steps, ids = sample.steps, sample.token_ids
    assert steps is not None
    assert ids
    expected = log_p_alone(loaded, (*prompt.ids, *ids))[len(prompt.ids) - 1 :]
    np.testing.assert_allclose(
        steps.logprob, expected.gather(1, torch.tensor(ids)[:, None])[:, 0], atol=CLOSE
    )
    tops = expected.gather(1, torch.as_tensor(steps.top_ids))
    np.testing.assert_allclose(steps.top_logprobs, tops, atol=CLOSE)
    np.testing.assert_allclose(steps.entropy, torch.special.entr(expected.exp()).sum(-1), atol=CLOSE)
    assert "".join(steps.token or ()) == sample.output
    if greedy:
        np.testing.assert_allclose(steps.logprob, expected.amax(-1), atol=CLOSE)


@pytest.mark.thinned(5)
@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in REFUSED])
def test_every_number_is_that_of_the_text_alone(
    opened: Callable[..., HfBackend], strategy_of: Any, tmp_path: Path, name: str
) -> None:
    backend = opened(name)
    loaded = backend._loaded
    strategies = [
        strategy_of(loaded, ends=False, max_new_tokens=10),
        strategy_of(loaded, ends=False, max_new_tokens=10, do_sample=True, temperature=1.5),
        strategy_of(loaded, ends=False, max_new_tokens=10, do_sample=True, top_p=0.8, repetition_penalty=1.2),
        strategy_of(loaded, ends=False, max_new_tokens=10, num_beams=3),
        strategy_of(loaded, ends=False, max_new_tokens=6, penalty_alpha=0.6, top_k=4),
        strategy_of(
            loaded, ends=False, max_new_tokens=6, num_beams=4, num_beam_groups=2, diversity_penalty=1.0
        ),
        strategy_of(loaded, ends=False, max_new_tokens=4, num_beams=2, force_words_ids=((7,),)),
        strategy_of(loaded, ends=False, max_new_tokens=4, do_sample=True, stochastic_beams=True),
    ]
    requests = [Request(prompt, 0, strategy) for strategy in strategies for prompt in prompts()]
    texts: dict[Any, list[Any]] = {}
    for batch_rows in ("auto", 1):
        backend.configure(Engine(threads=1, batch_rows=batch_rows))
        for request, sample in zip(requests, backend.generate(requests, SILENT), strict=True):
            assert isinstance(sample, Sample), sample
            check_sample(loaded, request.prompt, sample, greedy=request.strategy is strategies[0])
            if sample.sequence_score is not None and sample.sequence_logprob is None:
                assert sample.mean_logprob is not None
                assert sample.sequence_score == pytest.approx(sample.mean_logprob, abs=CLOSE)
            texts.setdefault(batch_rows, []).append(sample.token_ids)
    assert texts["auto"] == texts[1]
    check_prompt_scores(backend)
    check_drift(backend, tmp_path)


def check_prompt_scores(backend: HfBackend) -> None:
    for prompt, scores in zip(prompts(), backend.score(prompts()), strict=True):
        if len(prompt.ids) > 1:
            expected = log_p_alone(backend._loaded, prompt.ids)
            chosen = expected.gather(1, torch.tensor(prompt.ids[1:])[:, None])[:, 0]
            np.testing.assert_allclose(scores.logprob[1:], chosen, atol=CLOSE)


def check_drift(backend: HfBackend, folder: Path) -> None:
    """Compare a model with itself along its texts: no divergence, the log-likelihood of the texts alone."""
    passages = [Passage(p.id, 0, p.ids, 1) for p in prompts() if len(p.ids) > 1]
    count = sum(map(len, passages))
    backend.distributions.keep_reference(
        passages, folder / "own", folder / "heads", positions=count, together=count, budget=2**30, share=0,
        progress=SILENT,
    )  # fmt: skip
    reference = backend.distributions.open_reference(folder / "own", folder / "heads")
    for chunk, some in reference.chunks(passages):
        for drift in backend.distributions.compare(reference, chunk, some, 3):
            assert float(np.abs(drift.values["kl"]).max()) < 1e-5
    expected = sum(
        float(log_p_alone(backend._loaded, p.ids).gather(1, torch.tensor(p.ids[1:])[:, None]).sum())
        for p in passages
    )
    assert backend.distributions.log_likelihood(passages, SILENT) == pytest.approx(
        expected, abs=count * CLOSE
    )


def test_a_prompt_of_one_token_is_read_right_or_refused(
    opened: Callable[..., HfBackend], strategy_of: Any
) -> None:
    refused = []
    prompt = Prompt("alone", "", (17,))
    for name in CONFIGS:
        if name in REFUSED:
            continue
        backend = opened(name)
        strategy = strategy_of(backend._loaded, ends=False, max_new_tokens=6)
        backend.configure(Engine(threads=1, batch_rows=1))
        answer = list(backend.generate([Request(p, 0, strategy) for p in (*prompts(), prompt)], SILENT))[-1]
        if isinstance(answer, Sample):
            check_sample(backend._loaded, prompt, answer, greedy=True)
        else:
            assert str(answer.error).startswith("prompt alone: it has one token")
            refused.append(name)
    assert refused == ["RecurrentGemma"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_does_not_predict_from_left_to_right_is_refused(
    opened: Callable[..., HfBackend], name: str
) -> None:
    with pytest.raises(HarnessError, match=r"model\.id: .* cannot be decoded: .*; choose another model"):
        opened(name)


def test_a_model_that_reads_no_padded_batch_says_how_it_is_decoded(
    opened: Callable[..., HfBackend],
) -> None:
    (warning,) = opened("Rwkv").warnings[:1]
    assert "one prompt is decoded at a time" in warning
    (warning,) = opened("MiniMax").warnings[:1]
    assert "only prompts of one length share a batch" in warning
    assert opened("Bamba").warnings == ()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_is_not_mistaken_for_a_wrong_way_of_decoding(
    opened: Callable[..., HfBackend], dtype: str
) -> None:
    for name in ("Rwkv", "MiniMax", "RecurrentGemma", "OpenAIGPT", "Bamba", "Qwen3Next", "GptOss", "CTRL"):
        exact, rounded = opened(name), opened(name, dtype)
        assert rounded.modes.tree_is_right == exact.modes.tree_is_right, name
        assert rounded.modes.generate == exact.modes.generate, name
        assert rounded.modes.beams == exact.modes.beams, name


def test_a_model_that_fails_in_a_dtype_says_so(opened: Callable[..., HfBackend]) -> None:
    with pytest.raises(HarnessError, match=r"model\.id: .*: its forward pass fails in bfloat16: "):
        opened("XLNet", "bfloat16")


def test_what_is_left_of_the_models_own_settings_is_neutral(opened: Callable[..., HfBackend]) -> None:
    assert opened("Mamba")._loaded.model.generation_config.to_diff_dict() == GenerationConfig().to_diff_dict()


def test_beams_that_are_right_in_no_mode_are_refused(
    opened: Callable[..., HfBackend], strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened("Bamba")
    monkeypatch.setitem(backend.modes.__dict__, "beams", None)
    beams = strategy_of(backend._loaded, max_new_tokens=4, num_beams=2)
    greedy = strategy_of(backend._loaded, max_new_tokens=4)
    requests = [Request(prompt, 0, strategy) for strategy in (beams, greedy) for prompt in prompts()[:2]]
    answers = list(backend.generate(requests, SILENT))
    assert [isinstance(answer, Failure) for answer in answers] == [True, True, False, False]
    assert isinstance(answers[0], Failure)
    assert str(answers[0].error).startswith("decoding.num_beams: stock beam search is not right with ")


def test_a_quantized_cache_is_refused_where_no_cache_is_right(
    opened: Callable[..., HfBackend], strategy_of: Any
) -> None:
    backend = opened("RecurrentGemma")
    beams = strategy_of(backend._loaded, max_new_tokens=4, num_beams=2)
    quantized = replace(beams, cache={"backend": "fp8"})
    (answer,) = backend.generate([Request(prompts()[0], 0, quantized)], SILENT)
    assert isinstance(answer, Failure)
    assert str(answer.error).endswith("is not right with any cache; use cache=default")


def test_batches_that_a_model_misreads_are_not_timed(
    opened: Callable[..., HfBackend], strategy_of: Any
) -> None:
    backend = opened("MiniMax")
    strategy = strategy_of(backend._loaded, max_new_tokens=4)
    requests = [Request(prompt, 0, strategy) for prompt in prompts()[:2]]
    timing = Timing(name="t", prompts=2, repeats=1, warmup=0, batch_size=2, new_tokens=3)
    with pytest.raises(HarnessError, match=r"^timing\.batch_size=2: .*; use timing\.batch_size=1$"):
        backend.time(requests, timing, SILENT)
    assert len(backend.time(requests, timing.model_copy(update={"batch_size": 1}), SILENT)) == 2
