"""Training: exact probabilities as targets, the loss, the optimizer, the seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer

from harness.models.fable import fable_folder
from tools.fable.bpe import BEGIN
from tools.fable.corpus import Batch, Corpus
from tools.fable.grammar import Grammar
from tools.fable.optim import orthogonalise
from tools.fable.train import RECIPES, loss_of, schedule, train_model


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(fable_folder("fable_tiny") / "tokenizer.json"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def batch(grammar: Grammar, tokenizer: Tokenizer) -> Batch:
    return Corpus(grammar, tokenizer, "test", 1024).batch(long=False)


def texts_of(batch: Batch, tokenizer: Tokenizer) -> list[str]:
    lengths = (batch.weights > 0).sum(1).tolist()
    return [
        tokenizer.decode(row[:length], skip_special_tokens=False)
        for row, length in zip(batch.inputs.tolist(), lengths, strict=True)
    ]


def test_targets_are_the_exact_probabilities(batch: Batch, grammar: Grammar, tokenizer: Tokenizer) -> None:
    width = batch.inputs.size(1)
    choices = list(
        zip(batch.positions.tolist(), batch.token_ids.tolist(), batch.probabilities.tolist(), strict=True)
    )
    for i, text in enumerate(texts_of(batch, tokenizer)):
        last = i * width + int((batch.weights[i] > 0).sum()) - 1
        target = {
            tokenizer.decode([token], skip_special_tokens=False): p
            for position, token, p in choices
            if position == last
        }
        assert target == pytest.approx(grammar.walk(text.removeprefix(BEGIN))[-1])


def test_probabilities_at_each_position_sum_to_one(batch: Batch) -> None:
    sums = torch.zeros(batch.weights.numel()).index_add(0, batch.positions, batch.probabilities)
    real = (batch.weights > 0).flatten()
    torch.testing.assert_close(sums[real], torch.ones(int(real.sum())))
    assert not sums[~real].any()


def test_windows_fill_the_context(grammar: Grammar, tokenizer: Tokenizer) -> None:
    window = Corpus(grammar, tokenizer, "test", 1024).batch(long=True)
    assert window.inputs.shape == (2, 511)
    assert (window.weights > 0).all()


def test_loss_is_zero_for_the_exact_probabilities_only(batch: Batch) -> None:
    rows, width = batch.inputs.shape
    exact = torch.full((rows * width, 4096), -1e9)
    exact[batch.positions, batch.token_ids] = batch.probabilities.log()
    for logits, expected in ((exact, 0.0), (torch.where(exact > -1e8, 0.0, exact), None)):
        model = SimpleNamespace(logits=logits.view(rows, width, -1))
        loss = float(loss_of(lambda model=model, **_: model, batch, weighted=True))
        assert loss == pytest.approx(0.0, abs=1e-5) if expected is not None else loss > 0.01


def test_muon_makes_singular_values_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((64, 192), (192, 64), (192, 192)):
        matrix = orthogonalise(torch.randn(shape, generator=generator))
        values = torch.linalg.svdvals(matrix.float())
        assert matrix.shape == shape
        assert 0.3 < float(values.median()) < 1.3
        assert float(values.max()) < 1.4


def test_the_learning_rate_rises_stays_and_falls_to_zero() -> None:
    recipe = replace(RECIPES["fable_tiny"], steps=1000, warmup=10, cooldown=0.5)
    shares = [schedule(recipe, step) for step in (0, 9, 500, 750, 1000)]
    assert shares == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.0])


def test_equal_seeds_train_equal_models(tokenizer: Tokenizer, one_thread: None) -> None:
    recipe = replace(RECIPES["fable_tiny"], steps=3, batch_tokens=512)
    first, second = (train_model("fable_tiny", recipe, tokenizer)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
