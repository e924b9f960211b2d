"""Metrics of samples and points, each defined in one place, computed from a stored point's tables.

A sample's metrics are columns of generations.parquet; a point's are means over its samples (probability
metrics: over all its tokens) and go to metrics.json in sections. Their names, and which direction is better,
are in `analysis/metric_catalog.py`; `artifacts/compute_metrics.py` computes and stores them. Importing this
package imports nothing heavy.
"""

from harness.analysis.metrics.custom import CustomMetric, Generated, Token, read_custom_metrics
from harness.analysis.metrics.requested import RequestedMetrics
from harness.analysis.metrics.text_metrics import words

__all__ = ["CustomMetric", "Generated", "RequestedMetrics", "Token", "read_custom_metrics", "words"]
