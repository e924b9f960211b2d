"""How the built-in models are made: a seeded grammar, its texts, and the training."""
