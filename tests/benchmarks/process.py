"""A complete sweep, from the start of the process to the end of logging, compared with a plain script."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.contend import contend
from tests.benchmarks.shapes import EIGHT, llama_100m

BUDGET = 2.0
NEW_TOKENS = 48
PROMPTS = 8


def prepare(folder: Path) -> list[str]:
    """Write the model and a tokenizer with as many tokens; return the prompts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(0)
    model = llama_100m().model
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = {f"▁{''.join(rng.choices(letters, k=5))}" for _ in range(40_000)}
    vocabulary = ["<unk>", "<s>", "</s>", *sorted(words)][: model.config.vocab_size]
    backend = Tokenizer(models.Unigram([(token, -10.0) for token in vocabulary], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    ).save_pretrained(folder)
    model.save_pretrained(folder)
    return [
        " ".join(rng.choice(vocabulary[3:])[1:] for _ in range(rng.randrange(6, 41))) for _ in range(PROMPTS)
    ]


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a process whose store is in a folder."""
    variables = os.environ | {
        "HARNESS_OUTPUTS": str(folder / "outputs"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": os.getcwd(),
    }
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # which few users have
    return variables


def override(fields: dict[str, Any]) -> str:
    """Return one of the sweep's cases."""
    overrides = [f"decoding.{key}={str(value).lower()}" for key, value in fields.items()]
    # Texts with `=` are quoted, or Hydra would not read them as texts.
    return f"[{','.join(repr(text) for text in ['decoding=greedy', *overrides])}]"


def main(turns: int = 3) -> None:
    """Print the results."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        prompts = prepare(base / "model")
        rows = [{"id": f"p{index}", "prompt": text} for index, text in enumerate(prompts)]
        (base / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        names = ["_".join(map(str, fields)) or "greedy" for fields in EIGHT]
        (base / "strategies.json").write_text(json.dumps(dict(zip(names, EIGHT, strict=True))))
        count = 0

        def run(command: Callable[[Path], list[str]]) -> int:
            nonlocal count
            count += 1
            folder = base / f"turn{count}"
            folder.mkdir()
            command_line = [sys.executable, "-m", *command(folder)]
            # The script's MLflow writes its artifacts below the working folder.
            subprocess.run(command_line, check=True, env=environment(folder), capture_output=True, cwd=folder)
            return len(EIGHT) * PROMPTS * NEW_TOKENS

        def harness(folder: Path) -> list[str]:
            return [
                "harness",
                "-m",
                f"model.id={base / 'model'}",
                "prompts=custom",
                f"prompts.file={base / 'prompts.jsonl'}",
                f"cases=[{','.join(override(fields) for fields in EIGHT)}]",
                f"generation.max_new_tokens={NEW_TOKENS}",
                "generation.ignore_eos=true",
                f"engine.threads={threads}",
                "timing=off",
                "compare.noise=false",
            ]

        def script(folder: Path) -> list[str]:
            inputs = [base / "model", base / "prompts.jsonl", f"sqlite:///{folder / 'mlflow.db'}"]
            return [
                "tests.benchmarks.plain_script",
                *map(str, [*inputs, base / "strategies.json", NEW_TOKENS, threads]),
            ]

        times = contend({"harness": lambda: run(harness), "script": lambda: run(script)}, turns, warmup=0)
        print(
            f"\nComplete sweep: 100M fp32, 8 strategies x 8 prompts x {NEW_TOKENS} tokens, {threads} threads"
        )
        seconds = {name: sorted(some)[len(some) // 2] for name, some in times.seconds.items()}
        print(
            f"plain script {seconds['script']:.1f} s, harness {seconds['harness']:.1f} s: "
            f"{times.ratio('script', 'harness'):.2f}x ≥ {BUDGET:g}"
        )
