"""The self-test at load, held to models whose stock `generate` or forward pass is disturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.backends.hf.self_test import tree_is_right
from harness.backends.hf.verified_modes import VerifiedModes
from harness.decoding.detokenizer import Detokenizer
from harness.errors import HarnessError


def calls_of_generate(
    loaded: Any, monkeypatch: pytest.MonkeyPatch, change: Callable[[torch.Tensor], None]
) -> list[int]:
    """Change what stock `generate` returns; the rows of each call are appended to the list returned."""
    honest, rows = loaded.model.generate, []

    def generate(*args: Any, **inputs: Any) -> torch.Tensor:
        output: torch.Tensor = honest(*args, **inputs)
        rows.append(len(output))
        change(output)
        return output

    monkeypatch.setattr(loaded.model, "generate", generate)
    return rows


@pytest.mark.parametrize(
    ("wrong", "verdict", "calls"),
    [
        pytest.param(lambda rows: False, True, [2], id="right"),
        pytest.param(lambda rows: rows > 1, True, [2, 1, 1], id="misreads padded batches"),
        pytest.param(lambda rows: True, False, [2, 1], id="wrong"),
    ],
)
def test_stock_generate_decodes_a_batch_and_else_each_prompt_alone(
    wrong: Callable[[int], bool],
    verdict: bool,
    calls: list[int],
    loaded_model: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = loaded_model("llama")

    def change(output: torch.Tensor) -> None:
        if wrong(len(output)):
            output[:, -2] = (output[:, -2] + 1) % loaded.model.config.vocab_size

    rows = calls_of_generate(loaded, monkeypatch, change)
    assert tree_is_right(loaded, Detokenizer(loaded.tokenizer)) is verdict
    assert rows == calls


def test_logits_that_are_not_finite_are_refused(loaded_model: Any) -> None:
    loaded = loaded_model("llama")
    weight = loaded.model.lm_head.weight
    kept = weight[5, 0].item()
    try:
        with torch.no_grad():
            weight[5, 0] = float("nan")
        with pytest.raises(HarnessError, match=r"^model\.id: .*logits are not finite"):
            VerifiedModes(loaded, Detokenizer(loaded.tokenizer))
    finally:
        with torch.no_grad():
            weight[5, 0] = kept


def test_a_prompt_of_one_token_is_tested_when_there_is_one(
    loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.backends.backend import Request

    loaded = loaded_model("llama")
    asked: list[int] = []
    monkeypatch.setattr(
        "harness.backends.hf.verified_modes.reads_one_token", lambda *_: bool(asked.append(1))
    )
    modes = VerifiedModes(loaded, Detokenizer(loaded.tokenizer))
    (prompt,) = prompts_of(loaded, ("Once upon a time",))
    modes.check_prompt(Request(prompt, 0, strategy_of(loaded)))
    assert asked == []
    short = type(prompt)("alone", "", prompt.ids[:1])
    for _ in range(2):
        with pytest.raises(HarnessError, match="prompt alone: it has one token"):
            modes.check_prompt(Request(short, 0, strategy_of(loaded)))
    assert asked == [1]
