"""Imports of transformers without what decoding never needs, a fifth of the time of its imports.

It reads all files of its models twice, for the same table of names; and its losses for object detection
import scipy.optimize, for one function that matches boxes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

_SCIPY = "scipy.optimize"
_MODELS = "transformers.models"


def import_models() -> None:
    """Import the table of transformers' models, with the names that `import transformers` has found."""
    if _MODELS in sys.modules:
        return
    import transformers  # which reads the files
    from transformers.utils import import_utils

    honest = import_utils.define_import_structure
    models = Path(transformers.__file__).parent / "models" / "__init__.py"

    def define(module_path: str, prefix: str | None = None) -> Any:
        known = Path(module_path) == models and prefix is None
        return names_of_models() if known else honest(module_path, prefix)

    import_utils.define_import_structure = define  # type: ignore[assignment]
    try:
        import_module(_MODELS)
    finally:
        import_utils.define_import_structure = honest


def names_of_models() -> dict[frozenset[str], dict[str, set[str]]]:
    """Return what each module of transformers' models exports, by the packages that it requires.

    As `define_import_structure` returns it of the package; that of `import transformers`, which is cached,
    has the package's name before each module's, and modules beside the package.
    """
    import transformers
    from transformers.utils.import_utils import define_import_structure

    folder = Path(transformers.__file__).parent / "models"
    found = define_import_structure(folder, prefix="models")
    return {
        required: {
            module.removeprefix("models."): names
            for module, names in modules.items()
            if module.startswith("models.")
        }
        for required, modules in found.items()
    }


def import_modeling() -> None:
    """Import what models of transformers share, scipy only once a loss calls it."""
    import_models()
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
