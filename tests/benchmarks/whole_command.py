"""Whole commands, from the start of a process to its end, and where their time goes.

Nothing is instrumented: the phases follow from the clock around the process and from what the store notes
anyway, when the plan was made, points began and ended, files were written, and how long decoding took.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.shapes import llama_100m


@dataclass(frozen=True)
class Sweep:
    """Strategies of one prompt set; all texts have the same length."""

    strategies: Sequence[dict[str, Any]]
    prompts: int
    new_tokens: int

    def __str__(self) -> str:
        return f"{len(self.strategies)} strategies x {self.prompts} prompts x {self.new_tokens} tokens"

    @property
    def tokens(self) -> int:
        """Of all texts."""
        return len(self.strategies) * self.prompts * self.new_tokens


class Checkpoint:
    """A model of 100M parameters with a trained one's entropy, and prompts of random words, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._threads = torch.get_num_threads()
        self._words = _write(folder)

    def prompts(self, count: int) -> list[str]:
        """Return prompts of 6 to 40 tokens."""
        rng = random.Random(0)
        return [" ".join(rng.choices(self._words, k=rng.randrange(6, 41))) for _ in range(count)]

    def command(self, sweep: Sweep, folder: Path) -> list[str]:
        """Return the words of the harness's command."""
        return [
            "harness",
            "-m",
            f"model.id={self.folder}",
            "prompts=custom",
            f"prompts.file={self._prompt_file(sweep, folder)}",
            f"cases=[{','.join(override(fields) for fields in sweep.strategies)}]",
            f"generation.max_new_tokens={sweep.new_tokens}",
            "generation.ignore_eos=true",
            f"engine.threads={self._threads}",
        ]

    def script(self, sweep: Sweep, folder: Path) -> list[str]:
        """Return the words of the plain script."""
        names = ["_".join(map(str, fields.items())) or "greedy" for fields in sweep.strategies]
        strategies = folder / "strategies.json"
        strategies.write_text(json.dumps(dict(zip(names, sweep.strategies, strict=True))))
        inputs = [
            self.folder,
            self._prompt_file(sweep, folder),
            f"sqlite:///{folder / 'mlflow.db'}",
            strategies,
        ]
        return ["tests.benchmarks.plain_script", *map(str, [*inputs, sweep.new_tokens, self._threads])]

    def _prompt_file(self, sweep: Sweep, folder: Path) -> Path:
        rows = [{"id": f"p{index}", "prompt": text} for index, text in enumerate(self.prompts(sweep.prompts))]
        path = folder / "prompts.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path


def _write(folder: Path) -> list[str]:
    """Write the model, and a tokenizer with as many tokens; return its words."""
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
    return [word[1:] for word in vocabulary[3:]]


def override(fields: dict[str, Any]) -> str:
    """Return one of the sweep's cases."""
    overrides = [f"decoding.{key}={str(value).lower()}" for key, value in fields.items()]
    # Texts with `=` are quoted, or Hydra would not read them as texts.
    return f"[{','.join(repr(text) for text in ['decoding=greedy', *overrides])}]"


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a process whose store is in a folder."""
    variables = os.environ | {
        "HARNESS_OUTPUTS": str(folder / "outputs"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": os.getcwd(),
    }
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # which few users have
    return variables


def run(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run `python -m words` in a folder, to which its store goes; return when it began and ended."""
    began = time.time()
    command = [sys.executable, "-m", *words]
    subprocess.run(command, check=True, env=environment(folder), capture_output=True, cwd=folder)
    return began, time.time()


def phases(outputs: Path, began: float, ended: float) -> dict[str, float]:
    """Return the seconds of each phase of the one sweep in a store, whose process began and ended then."""
    (plan,) = outputs.glob("sweeps/*/plan.json")
    sweep = json.loads(plan.read_text())
    points = sweep["points"]
    folders = [outputs / "points" / point["point_id"] for point in points]
    decoding = _json(folders[0] / "parts.json")["facts"]["decode_seconds"]  # all points decode together
    load = _json(folders[0] / "environment.json")["model"]["load_seconds"]
    opened, planned = points[0]["started"], sweep["started"]
    timing, before = 0.0, opened + decoding
    for point, folder in sorted(zip(points, folders, strict=True), key=lambda pair: pair[0]["ended"]):
        if (folder / "timing.parquet").exists():
            timing += (folder / "timing.parquet").stat().st_mtime - before
        before = point["ended"]
    noise = sum(_json(path)["seconds"] for path in outputs.glob("points/*/noise.json"))
    written = plan.with_name("compare.html").stat().st_mtime
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database:
        ((logged,),) = database.execute("SELECT max(end_time) / 1000.0 FROM runs")
    return {
        "start and plan": planned - began,
        "imports and self-test": opened - planned - load,
        "load": load,
        "decoding": decoding,
        "timing": timing,
        "noise floor": noise,
        "metrics": before - opened - decoding - timing - noise,
        "page": written - before,
        "MLflow": logged - written,
        "exit": ended - logged,
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def in_words(found: dict[str, float]) -> str:
    """Return the phases in a line."""
    return ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in found.items())
