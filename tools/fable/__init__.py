"""Training of the built-in models: a seeded grammar, its texts, the tokenizer and the optimizer."""
