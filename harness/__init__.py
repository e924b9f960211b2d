"""Compare LLM decoding strategies: sweeps over models, quantizations, prompts and strategies."""

__version__ = "0.1.0"
