"""Packages that only some choices need: whether they are here, and the line that installs them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec


def lacking(modules: Sequence[str], extra: str) -> str | None:
    """What is not installed of `modules`, and how to install it; None when all are here.

    Args:
        modules: names to import.
        extra: of this project, that brings them.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if not missing:
        return None
    are = "is" if len(missing) == 1 else "are"
    return f"{' and '.join(missing)} {are} not installed: pip install 'decoding-harness[{extra}]'"


def package_version(name: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
