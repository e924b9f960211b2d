"""Drift: what a lower precision changes along its reference's texts."""
