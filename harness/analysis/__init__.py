"""Torch-free numbers from the store: metrics, statistics, comparison, expectations, replay."""
