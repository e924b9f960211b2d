"""Metrics of samples and points, each defined in one place, computed from a stored point's tables.

A sample's metrics are columns of generations.parquet; a point's are means over its samples (probability
metrics: over all its tokens) and go to metrics.json in sections.
"""
