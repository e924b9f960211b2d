"""Imports of transformers without what decoding never calls.

Its losses for object detection import scipy.optimize, a fourteenth of the time from the start of a process to
a loaded model, for one function that matches boxes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_SCIPY = "scipy.optimize"


def import_modeling() -> None:
    """Import what models of transformers share, scipy only once a loss calls it."""
    with _scipy_when_called():
        import_module("transformers.modeling_utils")


@contextmanager
def _scipy_when_called() -> Iterator[None]:
    """Let `from scipy.optimize import linear_sum_assignment` import nothing yet; other names import scipy."""
    if _SCIPY in sys.modules or find_spec("scipy") is None:
        yield
        return
    stand_in: Any = ModuleType(_SCIPY)

    def real() -> ModuleType:
        if sys.modules.get(_SCIPY) is stand_in:
            del sys.modules[_SCIPY]
        return import_module(_SCIPY)

    def attribute(name: str) -> Any:
        if name.startswith("__"):  # asked of every module by `inspect`
            raise AttributeError(name)
        return getattr(real(), name)

    stand_in.__getattr__ = attribute
    stand_in.linear_sum_assignment = lambda *args, **keys: real().linear_sum_assignment(*args, **keys)
    sys.modules[_SCIPY] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(_SCIPY) is stand_in:
            del sys.modules[_SCIPY]
