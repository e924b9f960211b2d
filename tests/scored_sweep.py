"""A sweep of chat prompts and texts with references, whose outputs are scored as those of a real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from fake_points import HOSTILE, make_sweep

from harness.analysis.metrics.custom import read_custom_metrics
from harness.analysis.metrics.requested import RequestedMetrics
from harness.artifacts.compute_metrics import add_metrics
from harness.store.records import Sample, Steps
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep
from harness.store.tables import generations_table, tokens_table

ANSWERS = {
    "greedy": {"capital": " Lisbon.", "colours": " red, blue", "hello": " Hello there."},
    "top_p": {"capital": " Lisbon.", "colours": " green, red", "hello": " Good day."},
    "temperature": {"capital": " Porto, I think.", "colours": " green", "hello": " Hello there."},
}
"""By decoding and prompt."""

REFERENCES = {"capital": "Lisbon.", "colours": "red, blue"}
PROMPTS = {
    "capital": "<|user|>What is the capital of Portugal?<|assistant|>",
    "colours": "A list of two colours:",
    "hello": "<|system|>Be kind.<|user|>Say hello.<|assistant|>",
}
MESSAGES = {
    "capital": [{"role": "user", "content": "What is the capital of Portugal?"}],
    "hello": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Say hello."}],
}

POLITE = '''
def politeness(generated):
    """How often it says please."""
    return generated.output.lower().count("please")


politeness.better = "higher"
'''


def scored_sweep(outputs: Path, hostile: bool = False, **options: Any) -> Sweep:
    """Save a sweep of three strategies; `hostile`: with hostile texts as references, roles and turns too."""
    texts = {**PROMPTS, **(dict.fromkeys(HOSTILE) if hostile else {})}
    sweep = make_sweep(outputs, decodings=tuple(ANSWERS), texts=texts, **{"models": ("m",), **options})
    references = {**REFERENCES, **({name: HOSTILE[name] or "x" for name in HOSTILE} if hostile else {})}
    messages = {**MESSAGES}
    if hostile:
        messages |= {name: [{"role": text, "content": text}] * 2 for name, text in HOSTILE.items()}
    custom = outputs / "polite.py"
    custom.write_text(POLITE, encoding="utf-8")
    requested = RequestedMetrics(
        read_custom_metrics((f"{custom}:politeness",)),
        references,
        {name: json.dumps(turns, ensure_ascii=False) for name, turns in messages.items()},
    )
    for point in sweep.points:
        stored = StoredPoint(outputs / "points" / point.point_id)
        if not hostile:
            _write(stored, ANSWERS[point.decoding])
        stored.write_parts({"facts": {"tokens": None, "decode_seconds": None}})
        add_metrics(stored, requested)
    return sweep


def _write(stored: StoredPoint, answers: dict[str, str]) -> None:
    """Write these outputs, a word a token, each as likely as it is long."""
    samples = []
    for prompt_id, output in answers.items():
        tokens = tuple(f" {word}" for word in output.split())
        logprobs = np.array([-0.1 * len(token) for token in tokens], np.float32)
        kept = np.full(len(tokens), 50 if stored.point_id.startswith("mfp32topp") else 2048, np.int32)
        mass = np.full(len(tokens), 0.9 if stored.point_id.startswith("mfp32topp") else 1.0, np.float32)
        steps = Steps(
            token_id=np.array([sum(token.encode()) for token in tokens]),
            token=tokens, logprob=logprobs, warped_logprob=logprobs, kept=kept, kept_mass=mass,
            rank=np.ones(len(tokens), np.int32),
        )  # fmt: skip
        samples.append(
            Sample(prompt_id, 0, PROMPTS[prompt_id], output, 7, len(tokens), "eos", seed=0, steps=steps)
        )
    stored.write_table("generations", generations_table(samples))
    stored.write_table("tokens", tokens_table(samples))
