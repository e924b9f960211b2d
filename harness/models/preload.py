"""Torch's library is read by a thread while a sweep is planned, which spares its import a fifth of its time.

The dynamic linker works without the interpreter's lock. Nothing depends on it: what fails here, `import
torch` does again, and explains. Builds for GPUs first search several folders for CUDA's libraries: theirs is
left to torch.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from sys import modules
from threading import Thread


def preload_torch() -> None:
    """Begin to read torch's library, where it is not read yet."""
    spec = None if "torch" in modules else find_spec("torch")
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / "lib"
    if not (folder / "libtorch_cuda.so").exists():
        Thread(target=_read, args=(folder,), daemon=True).start()


def _read(folder: Path) -> None:
    with suppress(OSError):
        # As `import torch` does, so that the libraries that it depends on are the same ones.
        ctypes.CDLL(str(folder / "libtorch_global_deps.so"), mode=os.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / "libtorch_cpu.so"), mode=os.RTLD_NOW)
