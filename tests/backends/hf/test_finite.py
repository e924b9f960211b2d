"""NaN and infinity: found wherever logits enter, said with the dtype and a cure, and stored nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.backend import Failure, Request
from harness.backends.hf.backend import HfBackend
from harness.cli.main import main
from harness.errors import HarnessError
from harness.progress import SILENT
from harness.prompts.passages import Passage
from harness.prompts.prompt import Prompt
from harness.store.records import Sample

POISON = 299
"""A token that no self-test and no other prompt has."""

GOOD, BAD = Prompt("good", "", (5, 9, 31)), Prompt("bad", "", (5, POISON, 31))


@contextmanager
def poisoned(loaded: Any, value: float) -> Iterator[None]:
    """Let the embedding of POISON have one value that is not finite."""
    weight = loaded.model.get_input_embeddings().weight
    before = weight[POISON, 3].item()
    weight[POISON, 3] = value
    try:
        yield
    finally:
        weight[POISON, 3] = before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["tree", "stock_generate", "beams"])
def test_a_sample_whose_logits_are_not_finite_is_a_failure_and_the_others_are_not(
    loaded_model: Any, strategy_of: Any, value: float, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("gpt2")
    fields = {"num_beams": 2} if method == "beams" else {}
    strategy = strategy_of(loaded, ends=False, max_new_tokens=4, **fields)
    backend = HfBackend(loaded)
    if method == "stock_generate":
        monkeypatch.setattr(backend.modes, "tree_is_right", False)
    with poisoned(loaded, value):
        answers = [
            next(backend.generate([Request(prompt, 0, strategy)], SILENT)) for prompt in (GOOD, BAD, GOOD)
        ]
    assert isinstance(answers[0], Sample)
    assert isinstance(answers[2], Sample)
    assert isinstance(answers[1], Failure)
    text = str(answers[1].error)
    assert "the model's logits are not finite in float32; the checkpoint is damaged: get its files" in text
    if method != "beams":
        assert text.startswith("prompt bad, sample 0, step 0: ")


def test_in_one_batch_only_the_prompt_that_has_it_fails(loaded_model: Any, strategy_of: Any) -> None:
    loaded = loaded_model("gpt2")
    backend = HfBackend(loaded)
    strategies = [strategy_of(loaded, max_new_tokens=4), strategy_of(loaded, do_sample=True, top_p=0.9)]
    requests = [Request(prompt, 0, strategy) for strategy in strategies for prompt in (GOOD, BAD)]
    with poisoned(loaded, float("nan")):
        answers = list(backend.generate(requests, SILENT))
    assert [isinstance(answer, Failure) for answer in answers] == [False, True, False, True]
    for answer in answers[::2]:
        assert isinstance(answer, Sample)
        assert answer.steps is not None
        for name, column in answer.steps.numbers().items():
            assert "warped" in name or np.isfinite(column).all(), name


def test_a_strategy_that_leaves_no_token_says_so(loaded_model: Any, strategy_of: Any) -> None:
    loaded = loaded_model("gpt2")
    backend = HfBackend(loaded)
    banned = tuple(range(loaded.model.config.vocab_size))
    strategy = strategy_of(loaded, max_new_tokens=4, suppress_tokens=banned)
    (answer,) = backend.generate([Request(GOOD, 0, strategy)], SILENT)
    assert isinstance(answer, Failure)
    assert str(answer.error).startswith("prompt good, sample 0, step 0: the strategy leaves no token")


def test_scores_of_given_texts_are_refused_too(loaded_model: Any, tmp_path: Path) -> None:
    loaded = loaded_model("gpt2")
    backend = HfBackend(loaded)
    passages = [Passage("bad", 0, BAD.ids, 1)]
    with poisoned(loaded, float("nan")):
        with pytest.raises(HarnessError, match="not finite in float32"):
            list(backend.score([BAD]))
        with pytest.raises(HarnessError, match="text bad, sample 0: the model's logits are not finite"):
            backend.distributions.log_likelihood(passages, SILENT)
        with pytest.raises(HarnessError, match="text bad, sample 0: the model's logits are not finite"):
            backend.distributions.keep_reference(
                passages, tmp_path / "own", tmp_path / "heads", positions=2, together=2, budget=2**30,
                share=0, progress=SILENT,
            )  # fmt: skip


@pytest.fixture
def overflowing(small_model: Any, tmp_path: Path) -> Path:
    """A checkpoint whose activations are beyond float16, and well within float32."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "overflowing"
    shutil.copytree(small_model("llama", dtype="float32"), folder)
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    for name in weights:
        if name.endswith("mlp.down_proj.weight"):
            weights[name] = weights[name] * 1e6
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def test_a_model_that_overflows_in_float16_fails_beside_its_good_precision(
    overflowing: Path, store: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["-m", f"model.id={overflowing}", "quantization=fp16,fp32", "prompts.items=[It was]",
                   "generation.max_new_tokens=4", "timing=off", "compare.noise=false"])  # fmt: skip
    text = capsys.readouterr().out
    assert status == 1
    assert "logits are not finite in float16; float16 overflows on this model: use quantization=bf16" in text
    assert "unexpected" not in text
    done = [path.parent for path in (outputs / "points").glob("*/parts.json")]
    assert len(done) == 1
    assert torch.isfinite(torch.tensor(_column(done[0], "logprob"))).all()


def _column(folder: Path, name: str) -> list[float]:
    from harness.store.stored_point import StoredPoint

    return StoredPoint(folder).columns("tokens", [name])[name]
