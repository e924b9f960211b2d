"""An engine of vLLM with a small model, and prompts of different lengths for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TEXTS = (
    "It was a dark and stormy",
    "A list of colors: red, blue, green, yellow, purple, orange and white.",
    "Portugal is",
    "The science lecture began with a story about a river",
    "Once upon a time there",
    "She said that the rain in the night was cold, and that the house",
    "What",
    "Café au lait, naïve façade",
)


@contextmanager
def opened(folder: str, **keys: Any) -> Iterator[Any]:
    """A VllmBackend with a model in fp32, with some keys of `backend`."""
    import torch

    from harness.backends.vllm.backend import VllmBackend
    from harness.backends.vllm.limited_files import LimitedFiles
    from harness.config.point import Backend, Engine, Model, Quantization
    from harness.models.locate import locate
    from harness.progress import SILENT

    torch.set_num_threads(1)
    model, fp32 = Model(name="small", id=folder, device="cpu"), Quantization(name="fp32", dtype="float32")
    found = vars(locate(model))
    names = LimitedFiles.__dataclass_fields__.keys() & found.keys()
    choice = Backend(name="vllm", kind="vllm", enforce_eager=True, **keys)
    files = LimitedFiles(**{name: found[name] for name in names}, limit=choice.max_model_len)
    backend = VllmBackend.open(model, fp32, choice, files, "cpu", SILENT)
    try:
        backend.configure(Engine())
        yield backend
    finally:
        backend.close()
