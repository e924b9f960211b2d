"""Statistics that separate differences from chance: pure functions on NumPy arrays, each with its source."""
