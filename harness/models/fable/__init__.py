"""The built-in models: two small Llamas trained on little stories.

They are real checkpoints (safetensors, own tokenizer and chat template), made by
``make fable`` from a seeded grammar (`tools/fable/`).
This module stays light: it names the models and says where they lie.
"""

from pathlib import Path

FABLE_MODELS: tuple[str, ...] = ("fable_tiny", "fable_small")


def fable_folder(name: str) -> Path:
    """Return the checkpoint folder of a built-in model.

    Args:
        name: one of :data:`FABLE_MODELS`.

    Raises:
        KeyError: the name is not a built-in model's.
    """
    if name not in FABLE_MODELS:
        raise KeyError(f"{name!r} is no built-in model; there are {', '.join(FABLE_MODELS)}")
    return Path(__file__).parent / name
