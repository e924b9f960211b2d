"""The transformers backend: one loaded model, in this process."""
