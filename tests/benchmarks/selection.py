"""The time of choosing among samples: 40 prompts x 16 samples x 64 tokens, all selectors and their curves."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent))

from fake_points import story

from harness.analysis.comparison import metrics_of
from harness.analysis.metrics.extracted_answer import AnswerPattern
from harness.analysis.metrics.requested import RequestedMetrics
from harness.analysis.point_results import point_results
from harness.analysis.selection.selected_points import selection_of
from harness.analysis.selection.selection_curves import selection_curves
from harness.artifacts.compute_metrics import add_metrics
from harness.config.selector_names import SELECTORS
from harness.store.records import Sample, Steps
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint
from harness.store.tables import generations_table, tokens_table

PROMPTS, SAMPLES, TOKENS, BUDGET = 40, 16, 64, 5


def main() -> None:
    """Print the results."""
    print(f"\nChoosing among samples: {PROMPTS} prompts x {SAMPLES} samples x {TOKENS} tokens")
    with tempfile.TemporaryDirectory() as folder:
        sweep = _sweep(Path(folder))
        points = point_results(sweep)
        started = time.perf_counter()
        selection = selection_of(sweep, points)
        chosen = time.perf_counter()
        curves = selection_curves(selection, metrics_of(selection.points), "reference/chrf")
        ended = time.perf_counter()
        print(f"{len(selection.points) - 1} selectors: {chosen - started:.1f} s ≤ {BUDGET}")
        print(f"{len(curves)} curves: {ended - chosen:.1f} s ≤ {BUDGET}")


def _sweep(outputs: Path) -> Sweep:
    """Return a sweep of one point, whose outputs are stories."""
    rng = random.Random(0)
    samples, references = [], {}
    for prompt in range(PROMPTS):
        references[f"p{prompt}"] = "".join(story(TOKENS, rng))
        for number in range(SAMPLES):
            tokens = tuple(story(TOKENS, rng))
            logprob = np.array([-rng.expovariate(1.0) for _ in tokens], np.float32)
            steps = Steps(token=tokens, logprob=logprob, vocab_mean_logprob=logprob - 5)
            text = "".join(tokens)
            samples.append(
                Sample(f"p{prompt}", number, "", text, 1, len(tokens), "length", seed=0, steps=steps)
            )
    stored = StoredPoint(outputs / "points" / "abc")
    stored.write_table("generations", generations_table(samples))
    stored.write_table("tokens", tokens_table(samples))
    stored.write_parts({"facts": {"tokens": None, "decode_seconds": None}})
    pattern = AnswerPattern("king|fire|night")
    add_metrics(stored, RequestedMetrics(references=references, answers=pattern))
    point = SweepPoint("m/none/top_p", "abc", "m", "none", "p", "top_p", status="done")
    compare = {"select": list(SELECTORS), "answer_pattern": pattern.expression}
    return Sweep("s", "s", outputs / "sweeps" / "s", {}, (point,), 0.0, compare)
