"""Two models held along the same texts, through the files, against float64 with both of them in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import harness.backends.hf.reference_files as distributions_module
import harness.backends.hf.teacher_forcing as forced_module
from harness.artifacts.drift.measure import Drift
from harness.backends.hf.output_head import Processing, find_head, plain_head
from harness.backends.hf.reference_files import Distributions, Form, form_of, head_bytes, keep
from harness.backends.hf.teacher_forcing import Reader
from harness.decoding.detokenizer import Detokenizer
from harness.prompts.passages import Passage
from harness.store.reference_index import read_index

KINDS = ["llama", "qwen2", "mistral", "gpt2"]
PLENTY = 2**30


@pytest.fixture(scope="session")
def passages_of(prompts_of: Callable[..., Any]) -> Callable[..., list[Passage]]:
    """Ragged prompts, each gone on with ragged texts, two samples of one of them."""

    def passages(loaded: Any) -> list[Passage]:
        luck = torch.Generator().manual_seed(3)
        found = []
        for place, prompt in enumerate(prompts_of(loaded)):
            for sample in range(2 if place == 1 else 1):
                count = 9 + 13 * place - 4 * sample
                made = torch.randint(3, 300, (count,), generator=luck).tolist()
                found.append(Passage(prompt.id, sample, (*prompt.ids, *made), len(prompt.ids)))
        return found

    return passages


def hold(
    reference: Any, other: Any, passages: list[Passage], folder: Path, form: Form
) -> list[dict[str, Any]]:
    """The rows of drift, written and read as a sweep does."""
    count = sum(map(len, passages))
    keep(Reader(reference), iter(passages), folder / "own", folder / "heads", form, count, 0)
    there = Distributions(folder / "own", folder / "heads", other.device)
    drift = Drift(other, Detokenizer(other.tokenizer), folder, lambda *_: None, lambda _: None)
    rows: list[dict[str, Any]] = []
    for number, some in there.pieces(iter(passages)):
        rows += drift.compared(there, number, some, 3).to_pylist()
    return rows


def form(reference: Any, budget: int = PLENTY, positions: int = 200, exact: bool = True) -> Form:
    vocabulary = reference.model.config.vocab_size
    return form_of(find_head(reference.model) if exact else None, vocabulary, positions, budget)


@torch.inference_mode()
def by_hand(reference: Any, other: Any, passages: list[Passage]) -> dict[str, torch.Tensor]:
    parts: dict[str, list[torch.Tensor]] = {}
    for passage in passages:
        # A last token predicts nothing that is told; in bfloat16, a text without it may round otherwise.
        ids = torch.tensor([passage.ids[:-1]])
        p_logits, q_logits = (
            m.model(ids).logits[0, passage.first_target - 1 :].double() for m in (reference, other)
        )
        log_p, log_q = p_logits.log_softmax(-1), q_logits.log_softmax(-1)
        p, q = log_p.exp(), log_q.exp()
        token = torch.tensor(passage.target_ids)[:, None]
        for name, values in {
            "kl": (p * (log_p - log_q)).sum(-1),
            "total_variation": (p - q).abs().sum(-1) / 2,
            "logprob": log_p.gather(1, token)[:, 0],
            "drift_logprob": log_q.gather(1, token)[:, 0],
            "rank": 1 + (log_p > log_p.gather(1, token)).sum(-1),
            "drift_rank": 1 + (log_q > log_q.gather(1, token)).sum(-1),
            "entropy": -(p * log_p).sum(-1),
            "drift_entropy": -(q * log_q).sum(-1),
        }.items():
            parts.setdefault(name, []).append(values.double())
    return {name: torch.cat(values) for name, values in parts.items()}


def column(rows: list[dict[str, Any]], name: str) -> torch.Tensor:
    return torch.tensor([float(row[name]) for row in rows], dtype=torch.float64)


@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize("other", ["bfloat16", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_drift_is_that_of_both_models_in_memory(
    kind: str, other: str, sliced: bool, loaded_model: Any, passages_of: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    if sliced:  # texts longer than a slice, more positions than logits are held of, pieces of two texts
        if other == "bfloat16":
            pytest.skip("a slice rounds otherwise than the whole in bfloat16")
        monkeypatch.setattr(forced_module, "_SLICE", 20)
        monkeypatch.setattr(forced_module, "ROWS", 7)
        monkeypatch.setattr(distributions_module, "_PIECE_BYTES", 30 * 64 * 4)
    reference = loaded_model(kind)
    held = loaded_model(kind, other) if other != "float32" else loaded_model(kind, seed=1)
    passages = passages_of(reference)
    rows = hold(reference, held, passages, tmp_path, form(reference))
    assert [(row["prompt_id"], row["sample"], row["position"], row["token_id"]) for row in rows] == [
        (p.prompt_id, p.sample, position, token)
        for p in passages
        for position, token in enumerate(p.target_ids)
    ]
    for name, true in by_hand(reference, held, passages).items():
        assert torch.allclose(column(rows, name), true, atol=1e-5, rtol=1e-5), name
    assert (column(rows, "kl_error") == 0).all()
    assert all(len(row["top_ids"]) == len(row["top_tokens"]) == 3 for row in rows)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_has_no_drift_against_itself(
    kind: str, dtype: str, loaded_model: Any, passages_of: Any, tmp_path: Path
) -> None:
    loaded = loaded_model(kind, dtype)
    rows = hold(loaded, loaded, passages_of(loaded), tmp_path, form(loaded))
    assert rows
    for row in rows:
        assert row["kl"] == row["total_variation"] == 0.0
        assert row["same_top"]
        for own, other in (
            ("logprob", "drift_logprob"),
            ("rank", "drift_rank"),
            ("entropy", "drift_entropy"),
        ):
            assert row[own] == row[other]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_what_a_small_store_tells_is_within_its_bound(
    kind: str, loaded_model: Any, passages_of: Any, tmp_path: Path
) -> None:
    reference, other = loaded_model(kind), loaded_model(kind, "bfloat16")
    passages = passages_of(reference)
    positions = sum(map(len, passages))
    size = form(reference, positions * (96 * 8 + 32), positions, exact=False)
    assert (size.kind, size.k) == ("top", 96)
    rows = hold(reference, other, passages, tmp_path, size)
    true = by_hand(reference, other, passages)
    assert ((column(rows, "kl") - true["kl"]).abs() <= column(rows, "kl_error") + 1e-5).all()
    assert float(column(rows, "kl_error").max()) > 0
    for name in ("logprob", "rank", "drift_logprob", "drift_rank", "entropy"):
        assert torch.allclose(column(rows, name), true[name], atol=1e-5), name
    found = read_index(tmp_path / "own")
    assert found is not None
    assert not found.exact
    files = sum(path.stat().st_size for path in (tmp_path / "own").glob("*.safetensors"))
    assert files <= positions * (96 * 8 + 32) + 1000 * len(found.pieces)


def test_a_budget_keeps_as_many_texts_as_fit(loaded_model: Any, passages_of: Any, tmp_path: Path) -> None:
    loaded = loaded_model("llama")
    passages = passages_of(loaded)
    head = find_head(loaded.model)
    assert head is not None
    lengths = [len(passage) for passage in passages]
    budget = head_bytes(head) * 2
    row = 64 * 4
    size = form_of(head, loaded.model.config.vocab_size, 10**6, budget)
    assert (size.kind, size.row_bytes, size.positions) == ("hidden", row, head_bytes(head) // row)
    limit = lengths[0] + lengths[1] + 1
    keep(Reader(loaded), iter(passages), tmp_path / "own", tmp_path / "heads", size, limit, budget)
    found = read_index(tmp_path / "own")
    assert found is not None
    assert (found.texts, found.left_out) == (2, len(passages) - 2)
    assert found.positions == lengths[0] + lengths[1]
    there = Distributions(tmp_path / "own", tmp_path / "heads", "cpu")
    assert [p for _, some in there.pieces(iter(passages)) for p in some] == passages[:2]


def test_a_head_that_takes_the_budget_leaves_the_likeliest_tokens(loaded_model: Any) -> None:
    head = find_head(loaded_model("llama").model)
    assert head is not None
    size = form_of(head, 384, 100_000, head_bytes(head) + 1000)
    assert size.kind == "top"
    assert size.k == 64
    assert size.positions < 100_000
    assert form_of(head, 384, 10, PLENTY).kind == "hidden"
    assert form_of(None, 384, 10, PLENTY).k == 384


def test_a_store_that_died_is_gone_on_with(
    loaded_model: Any, passages_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributions_module, "_PIECE_BYTES", 1)
    loaded = loaded_model("qwen2")
    passages = passages_of(loaded)
    size = form(loaded)
    calls: list[int] = []
    honest = distributions_module._tensors

    def dying(reader: Any, some: Any, how: Any) -> Any:
        calls.append(len(some))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return honest(reader, some, how)

    monkeypatch.setattr(distributions_module, "_tensors", dying)
    whole = (Reader(loaded), tmp_path / "own", tmp_path / "heads")
    with pytest.raises(KeyboardInterrupt):
        keep(whole[0], iter(passages), *whole[1:], size, 999, 0)
    assert read_index(tmp_path / "own") is None
    keep(whole[0], iter(passages), *whole[1:], size, 999, 0)
    assert len(calls) == 1 + len(passages)
    found = read_index(tmp_path / "own")
    assert found is not None
    assert found.texts == len(passages)
    rows = hold(loaded, loaded, passages, tmp_path, size)
    assert {row["kl"] for row in rows} == {0.0}


@pytest.mark.parametrize(
    ("processing", "config"),
    [
        (Processing(cap=2.0), {"final_logit_softcapping": 2.0}),
        (Processing(scale=0.25), {"logit_scale": 0.25}),
        (Processing(divide=8.0), {"logits_scaling": 8.0}),
    ],
)
def test_what_a_model_does_behind_its_head_is_found(processing: Processing, config: dict[str, float]) -> None:
    from transformers import (
        CohereConfig,
        CohereForCausalLM,
        Gemma2Config,
        Gemma2ForCausalLM,
        GraniteConfig,
        GraniteForCausalLM,
    )

    shape = {
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.3,
    }  # fmt: skip
    make: Any = {
        "final_logit_softcapping": lambda: Gemma2ForCausalLM(Gemma2Config(**shape, head_dim=16, **config)),
        "logit_scale": lambda: CohereForCausalLM(CohereConfig(**shape, **config)),
        "logits_scaling": lambda: GraniteForCausalLM(GraniteConfig(**shape, **config)),
    }
    torch.manual_seed(0)
    model = make[next(iter(config))]().eval().requires_grad_(False)
    head = find_head(model)
    assert head is not None
    assert head.weight is not None
    assert {name: value for name, value in vars(head.processing).items() if value is not None} == {
        name: value for name, value in vars(processing).items() if value is not None
    }
    ids = torch.arange(4, 24)[None]
    hidden = model.model(ids).last_hidden_state[0]
    again = plain_head(head.weight, head.bias, head.processing)
    assert torch.allclose(again.logits(hidden), model(ids).logits[0], atol=1e-5)


def test_logits_that_no_head_explains(loaded_model: Any, passages_of: Any, tmp_path: Path) -> None:
    """Something unknown behind the head: no hidden states are kept, and the model's own logits are told."""
    loaded = loaded_model("llama", seed=5)
    honest = loaded.model.forward

    def squashed(*args: Any, **keys: Any) -> Any:
        output = honest(*args, **keys)
        output.logits = output.logits.clamp(min=-3.0)
        return output

    loaded.model.forward = squashed
    try:
        assert find_head(loaded.model) is None
        passages = passages_of(loaded)
        other = loaded_model("llama")
        rows = hold(loaded, other, passages, tmp_path, form(loaded, exact=False))
        true = by_hand(loaded, other, passages)
    finally:
        del loaded.model.forward
    for name, values in true.items():
        # Read in slices: of two tokens that are as good as equal, another one may be ahead.
        slack = 1.0 if "rank" in name else 2e-5
        assert torch.allclose(column(rows, name), values, atol=slack), name
        assert float(((column(rows, name) - values).abs() > 2e-5).double().mean()) < 0.02


def test_read_together_as_on_a_gpu_the_numbers_are_the_same(
    loaded_model: Any, passages_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("mistral")
    passages = passages_of(loaded)
    reader = Reader(loaded)
    alone = [hidden for _, hidden in reader.hidden(passages)]
    honest = forced_module._together
    monkeypatch.setattr(forced_module, "_together", lambda some, device: honest(some, "cuda:0"))
    assert [len(some) for some in honest(passages, "cuda:0")] == [6]
    together = [hidden for _, hidden in reader.hidden(passages)]
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
