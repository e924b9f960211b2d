"""Expectations from the command line to the exit status, the terminal, the sweep's folder and MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_points import write_table
from mlflow_runs import artifacts, runs

from harness.cli import main
from harness.config.places import built_in, experiment_file
from harness.results.sweeps import find_sweep

BASE = [
    "model=fable_tiny", "quantization=fp32", "prompts=storytelling", "prompts.limit=2", "timing=off",
    "generation.max_new_tokens=6", "engine.threads=1",
]  # fmt: skip
PROMPT = "It was a dark and stormy"


@pytest.fixture(scope="module")
def stock(one_thread: None) -> dict[str, Any]:
    """What stock `generate` makes of PROMPT greedily, the prompt's ids and the odds of what follows."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = built_in("harness") / "models" / "fable" / "fable_tiny"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    with torch.inference_mode():
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=6)[0]
        odds = model(**inputs).logits[0, -1].double().softmax(-1)
    prompt = inputs["input_ids"][0]
    return {
        "prompt_ids": prompt.tolist(),
        "output_ids": ids[len(prompt) :].tolist(),
        "output": tokenizer.decode(ids, skip_special_tokens=True)[len(PROMPT) :],
        "top": {tokenizer.decode(i): round(float(odds[i]), 6) for i in odds.topk(3).indices.tolist()},
    }
