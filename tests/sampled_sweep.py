"""A sweep with several samples per prompt, made by hand: greedy with one, top_p with four."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.metrics.extracted_answer import AnswerPattern
from harness.analysis.metrics.requested import RequestedMetrics
from harness.artifacts.compute_metrics import add_metrics
from harness.store.records import Sample, Steps
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint, sweep_id_of
from harness.store.tables import generations_table, tokens_table

REFERENCES = {"two": "2 + 2 is 4", "three": "6", "words": "yes"}

GREEDY = {"two": [" it is 4"], "three": [" 5"], "words": [" no"]}

DRAWN = {
    "two": [" it is 5", " it is 4", " is it 4 ?", " 7 or so"],
    "three": [" 6", " I say 5", " 5", " 6"],
    "words": [" no", " yes", " no way", " well"],
}
"""Answers: two 5 4 4 7, three 6 5 5 6, words (no number: the text) no, yes, no way, well."""

LOGPROBS = {
    "two": [-1.0, -2.0, -2.5, -0.5],
    "three": [-2.0, -1.0, -1.5, -3.0],
    "words": [-1.0, -1.2, -0.8, -4.0],
}
"""Mean over the tokens of each."""

CERTAINTY = {"two": [1.0, 2.0, 3.0, 2.5], "three": [5.0, 1.0, 1.0, 1.0], "words": [1.0, 1.0, 2.0, 4.0]}


def sampled_sweep(outputs: Path, **compare: Any) -> Sweep:
    """Save the sweep and its points; `compare` is its section of the config."""
    points = []
    for decoding, outputs_of in (("greedy", GREEDY), ("top_p", DRAWN)):
        point_id = f"sampled{decoding}".replace("_", "").ljust(16, "0")
        _write(StoredPoint(outputs / "points" / point_id), outputs_of)
        points.append(
            SweepPoint(
                f"m/none/{decoding}", point_id, "m", "none", "sums", decoding, {"decoding": decoding}, "done"
            )
        )
    sweep_id = sweep_id_of(point.point_id for point in points)
    sweep = Sweep(
        name="sampled", sweep_id=sweep_id, folder=outputs / "sweeps" / f"sampled-{sweep_id}", tracking={},
        points=tuple(points), started=1_790_000_000.0, compare=compare,
    )  # fmt: skip
    sweep.save()
    return sweep


def _write(stored: StoredPoint, texts: dict[str, list[str]]) -> None:
    """Write these outputs, a word a token; all tokens of an output are as likely as each other."""
    samples = []
    for prompt_id, some in texts.items():
        for number, output in enumerate(some):
            tokens = tuple(f" {word}" for word in output.split())
            same = np.full(len(tokens), LOGPROBS[prompt_id][number], np.float32)
            steps = Steps(
                token_id=np.array([sum(token.encode()) for token in tokens]), token=tokens, logprob=same,
                warped_logprob=same, rank=np.ones(len(tokens), np.int32),
                vocab_mean_logprob=np.full(len(tokens), -CERTAINTY[prompt_id][number], np.float32),
            )  # fmt: skip
            samples.append(
                Sample(prompt_id, number, prompt_id, output, 1, len(tokens), "eos", seed=number, steps=steps)
            )
    stored.write_table("generations", generations_table(samples))
    stored.write_table("tokens", tokens_table(samples))
    stored.write_config({"requested": {"decoding": {"name": "top_p"}}, "effective": {}})
    stored.write_json("environment.json", {"model": {"memory_footprint_mb": 7.5}})
    stored.write_parts({"facts": {"tokens": 10, "decode_seconds": 2.0}})
    add_metrics(stored, RequestedMetrics(references=REFERENCES, answers=AnswerPattern()))
