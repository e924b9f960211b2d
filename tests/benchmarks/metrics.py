"""The time of a sweep's metrics: 8 points x 100 prompts x 256 tokens, from their tables."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

from fake_points import story, write_point

from harness.analysis.metrics.custom import CustomMetric
from harness.analysis.metrics.requested import RequestedMetrics
from harness.artifacts.compute_metrics import add_metrics

POINTS, PROMPTS, TOKENS, BUDGET = 8, 100, 256, 5
CUSTOM = CustomMetric(
    "mine.py:f", b"def f(generated): return sum(token.rank > 1 for token in generated.tokens)"
)


def main() -> None:
    """Print the results."""
    rng = random.Random(0)
    prompts = {f"p{index}": f"Once upon a time, {index}" for index in range(PROMPTS)}
    references = {prompt: "".join(story(TOKENS, rng)) for prompt in prompts}
    print(f"\nMetrics of {POINTS} points x {PROMPTS} prompts x {TOKENS} tokens")
    with tempfile.TemporaryDirectory() as folder:
        stored = write_point(Path(folder), "abc", prompts, tokens=TOKENS)
        facts = {"tokens": PROMPTS * TOKENS, "decode_seconds": 1.0, "peak_mb": None}
        stored.write_json("parts.json", {"facts": facts})
        for name, requested in (
            ("text metrics", RequestedMetrics()),
            ("with references and a custom metric", RequestedMetrics((CUSTOM,), references)),
        ):
            add_metrics(stored, requested)  # imports
            started = time.perf_counter()
            for _ in range(POINTS):
                add_metrics(stored, requested)
            print(f"{name}: {time.perf_counter() - started:.1f} s ≤ {BUDGET}")
