"""What a call of the API leaves as it was: the process belongs to whoever called.

Calls take turns: torch's threads, Hydra's globals and the memory of a device are those of the whole process.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_turn = threading.RLock()
_VARIABLES = (
    "ACCELERATE_", "BITSANDBYTES_", "BNB_", "GOMP_", "HF_", "KMP_", "MLFLOW_", "OMP_", "TORCH",
    "TOKENIZERS_", "TRANSFORMERS_", "VLLM_", "_RJEM_",
)  # fmt: skip
"""How the names of variables begin that libraries set for themselves, some while they are imported."""


@contextmanager
def guest() -> Iterator[None]:
    """Let one call at a time go on, then restore environment, logging and torch's number of threads.

    Variables and loggers that other threads set meanwhile stay, as far as they can be told from those of the
    libraries that are used here.
    """
    with _turn:
        variables, levels, root = dict(os.environ), _levels(), logging.root
        handlers, level, threads = list(root.handlers), root.level, _torch_threads()
        hydra = _hydra_state()
        _import_tqdm()
        try:
            yield
        finally:
            _restore_hydra(hydra)
            for name in [name for name in os.environ if name.startswith(_VARIABLES)]:
                if name not in variables:
                    del os.environ[name]
            os.environ.update({name: text for name, text in variables.items() if name.startswith(_VARIABLES)})
            for name, before in levels.items():
                logging.getLogger(name).setLevel(before)
            if root.handlers != handlers:
                root.handlers[:] = handlers
            root.setLevel(level)
            _set_torch_threads(threads)


def _import_tqdm() -> None:
    """Import tqdm's bars without their warning that a notebook lacks widgets: none of them is shown."""
    if "ipykernel" in sys.modules and "tqdm.auto" not in sys.modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tqdm.auto  # noqa: F401


def _levels() -> dict[str, int]:
    """Return the level of each logger that there is."""
    loggers = logging.root.manager.loggerDict
    return {name: one.level for name, one in list(loggers.items()) if isinstance(one, logging.Logger)}


def _hydra_state() -> tuple[Any, Any]:
    """Return what Hydra knows of the application that it runs: its config, and the version of its rules."""
    if "hydra" not in sys.modules:
        return None, None
    from hydra.core.hydra_config import HydraConfig
    from hydra.version import VersionBase

    return HydraConfig.instance().cfg, VersionBase.instance().version_base


def _restore_hydra(state: tuple[Any, Any]) -> None:
    if "hydra.core.hydra_config" in sys.modules:
        from hydra.core.hydra_config import HydraConfig
        from hydra.version import VersionBase

        HydraConfig.instance().cfg, version = state
        if version is not None:
            VersionBase.instance().version_base = version


def _torch_threads() -> int | None:
    """Return torch's number of threads; None where it is not imported."""
    count = getattr(sys.modules.get("torch"), "get_num_threads", None)
    return None if count is None else int(count())


def _set_torch_threads(threads: int | None) -> None:
    torch = sys.modules.get("torch")
    if torch is not None and threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
