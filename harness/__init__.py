"""Compare LLM decoding strategies: sweeps over models, quantizations, prompts and strategies.

    import harness

    result = harness.sweep(model="fable_small", decoding=["greedy", "top_p"])
    result.summary().to("pandas")

Importing it loads nothing else: each name is imported when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api.calls import HarnessWarning, check, generate, inspect, load, plan, replay, sweep
    from harness.api.frame import Frame
    from harness.api.result import PointView, Result, SweepFailedError
    from harness.api.session import Session, session
    from harness.api.text_view import Text
    from harness.errors import ConfigError, HarnessError, Mistake, StoreError

__version__ = "0.1.0"

__all__ = [
    "ConfigError", "Frame", "HarnessError", "HarnessWarning", "Mistake", "PointView", "Result", "Session",
    "StoreError", "SweepFailedError", "Text", "check", "generate", "inspect", "load", "plan", "replay",
    "session", "sweep",
]  # fmt: skip

_MODULES = {
    "harness.api.calls": "HarnessWarning check generate inspect load plan replay sweep",
    "harness.api.frame": "Frame",
    "harness.api.result": "PointView Result SweepFailedError",
    "harness.api.session": "Session session",
    "harness.api.text_view": "Text",
    "harness.errors": "ConfigError HarnessError Mistake StoreError",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a name of the API when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _PlanPackage(ModuleType):
    """The subpackage `harness.plan`, which can be called: the API has a function of its name."""

    def __call__(self, *overrides: Any, **keys: Any) -> Any:
        """Call `harness.api.calls.plan`: what a sweep would do."""
        return import_module("harness.api.calls").plan(*overrides, **keys)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "plan" and isinstance(value, ModuleType):
            value.__class__ = _PlanPackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
