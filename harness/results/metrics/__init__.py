"""Metrics of samples and points, each defined in one place, computed from a stored point's tables.

A sample's metrics are columns of generations.parquet; a point's are means over its samples (probability
metrics: over all its tokens) and go to metrics.json in sections. What they are called, and which way is
better, stands in `results/catalog.py`. This package imports nothing heavy; `compute` does.
"""

from harness.results.metrics.asked import Asked
from harness.results.metrics.own import Generated, OwnMetric, Token, own_metrics
from harness.results.metrics.text import words

__all__ = ["Asked", "Generated", "OwnMetric", "Token", "own_metrics", "words"]
