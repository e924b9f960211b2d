"""Run one group: decode every point on one loaded model, record each step, measure latency apart."""
