"""The built-in models: two small Llamas trained on little stories.

They are real checkpoints (safetensors, tokenizer, chat template), trained by `make fable` on texts of a
seeded grammar (`tools/fable/`). This module imports nothing heavy: it has the models' names and folders only.
"""

from pathlib import Path

FABLE_MODELS: tuple[str, ...] = ("fable_tiny", "fable_small")


def fable_folder(name: str) -> Path:
    """Return the checkpoint folder of a built-in model; KeyError when there is none of that name."""
    if name not in FABLE_MODELS:
        raise KeyError(f"{name!r} is not a built-in model; available: {', '.join(FABLE_MODELS)}")
    return Path(__file__).parent / name
