"""The noise floor of a sweep: how much is read again, and what noise.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fake_backends import FakeTarget, chosen_logprobs

from harness.artifacts.noise import MOST_POSITIONS, SHARE, outputs_to_read
from harness.cli.main import main
from harness.prompts.prompt import Prompt

SWEEP = ["-m", "model=fable_tiny", "prompts.limit=6", "generation.max_new_tokens=24", "engine.threads=1",
         "generation.ignore_eos=true", "tracking=off"]  # fmt: skip


def prompt(name: str, tokens: int) -> Prompt:
    return Prompt(name, "", tuple(ord(name[0]) + index for index in range(tokens)))


def floor_of(outputs: Path) -> tuple[Path, dict[str, Any]]:
    """The one point with a noise.json, and its content."""
    (path,) = (outputs / "points").glob("*/noise.json")
    return path.parent, json.loads(path.read_text())


def test_the_shortest_prompts_are_read_as_far_as_the_share_goes() -> None:
    prompts = [prompt("long", 50), prompt("short", 10), prompt("middle", 20)]
    # 3,400 rows and 80 prompt positions: 3% of them are 104, so 10 + 40 and 20 + 34.
    assert outputs_to_read(prompts, 3400, 40) == {"short": 40, "middle": 34}
    assert outputs_to_read(prompts, 300, 40) == {"short": 1}
    assert outputs_to_read(prompts, 100, 40) == {}, "too little was decoded"
    assert outputs_to_read([], 10**6, 40) == {}


@pytest.mark.parametrize("rows", [0, 1, 60, 999, 10**4, 10**7])
def test_never_more_positions_than_the_share(rows: int) -> None:
    prompts = [prompt(chr(200 + 50 * index), 3 + 7 * index % 40) for index in range(30)]
    read = outputs_to_read(prompts, rows, 48)
    positions = sum(tokens + len(p.ids) for p in prompts for tokens in [read.get(p.id)] if tokens)
    assert positions <= min(SHARE * (rows + sum(len(p.ids) for p in prompts)), MOST_POSITIONS)


def test_it_agrees_with_a_float64_forward_pass_of_the_stored_output(outputs: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.models.fable import fable_folder

    assert main([*SWEEP, "timing=off", "quantization=bf16", "decoding=greedy,top_p,min_p,top_k"]) == 0
    folder, noise = floor_of(outputs)
    rounding = noise["rounding"]
    assert rounding["outputs"] >= 1
    assert rounding["changed"] is not None
    rows = pq.read_table(folder / "tokens.parquet").to_pylist()
    prompts = {
        row["prompt_id"]: row["prompt"] for row in pq.read_table(folder / "generations.parquet").to_pylist()
    }
    model = AutoModelForCausalLM.from_pretrained(fable_folder("fable_tiny"), dtype=torch.bfloat16).double()
    tokenizer = AutoTokenizer.from_pretrained(fable_folder("fable_tiny"))
    encoded = {name: tokenizer(text)["input_ids"] for name, text in prompts.items()}
    errors: list[float] = []
    for name in sorted(encoded, key=lambda name: len(encoded[name]))[: rounding["outputs"]]:
        own = [row for row in rows if row["prompt_id"] == name and row["sample"] == 0]
        own = own[: rounding["tokens"] - len(errors)]
        with torch.inference_mode():
            read = torch.tensor([[*encoded[name], *(row["token_id"] for row in own[:-1])]])
            log_p = model(input_ids=read).logits[0, -len(own) :].log_softmax(-1)
        errors += [log_p[at, row["token_id"]].item() - row["logprob"] for at, row in enumerate(own)]
    assert len(errors) == rounding["tokens"]
    # Two passes in 16 bits are about as far from each other as each is from the exact values.
    assert 0.02 < rounding["mean"] / np.abs(errors).mean() < 5
    assert 0.02 < rounding["largest"] / np.abs(errors).max() < 5
    assert noise["metrics"]["probability/mean_logprob"] <= rounding["mean"]
    assert not [key for key in noise["metrics"] if not key.startswith("probability/")]


def test_in_float32_nothing_moves_but_what_is_timed(outputs: Path) -> None:
    timed = ["timing=quick", "timing.prompts=1", "timing.repeats=2", "timing.new_tokens=4"]
    assert main([*SWEEP, "quantization=fp32", *timed, "decoding=beam,greedy,top_p,min_p"]) == 0
    folder, noise = floor_of(outputs)
    assert "greedy" in (folder / "config.yaml").read_text()
    assert noise["rounding"]["changed"] == 0
    assert noise["rounding"]["largest"] < 1e-4
    assert noise["metrics"]["probability/mean_logprob"] < 1e-5
    first, second = pq.read_table(folder / "timing.parquet").to_pylist()
    apart = abs(first["ttft_ms"] - second["ttft_ms"])
    assert noise["metrics"]["latency/ttft_p50_ms"] == pytest.approx(apart / np.sqrt(2))
    assert not [key for key in noise["metrics"] if key.startswith("text/")]
    facts = json.loads((folder / "parts.json").read_text())["facts"]
    assert noise["seconds"] < max(0.05 * facts["decode_seconds"], 0.1)


def test_too_few_tokens_or_a_quantized_cache_leave_rounding_out(outputs: Path) -> None:
    few = ["generation.max_new_tokens=4", "prompts.limit=1", "timing=off", "decoding=greedy,top_p"]
    assert main([*SWEEP, *few]) == 0
    _, noise = floor_of(outputs)
    assert noise["metrics"] == {}
    assert noise["rounding"] is None


def test_a_backend_without_teacher_forcing_says_what_was_timed(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = FakeTarget(chosen_logprobs)
    monkeypatch.setattr("harness.plan.prepare.target_of", lambda point, once: target)
    assert main(["-m", "decoding=greedy,top_p", "prompts=custom", "prompts.items=[one, two]",
                 "generation.max_new_tokens=4", "timing.repeats=3", "tracking=off"]) == 0  # fmt: skip
    _, noise = floor_of(outputs)
    assert noise["rounding"] is None
    # It always takes 10, 11 and 12 ms.
    assert noise["metrics"] == {"latency/total_p50_ms": pytest.approx(np.sqrt(2 / 3))}


def test_timing_anew_measures_the_floor_anew(outputs: Path) -> None:
    sweep = [*SWEEP, "timing=quick", "timing.prompts=1", "timing.new_tokens=4", "decoding=greedy,top_p"]
    assert main([*sweep, "timing.repeats=2"]) == 0
    _, before = floor_of(outputs)
    assert main([*sweep, "timing.repeats=3"]) == 0
    _, after = floor_of(outputs)
    assert before["metrics"]["latency/itl_p50_ms"] != after["metrics"]["latency/itl_p50_ms"]
