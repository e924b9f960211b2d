"""Optional packages: whether they are installed, and the command that installs them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec


def missing_packages(modules: Sequence[str], extra: str) -> str | None:
    """Return which of `modules` are not installed and how to install them; None when all are installed.

    Args:
        modules: names to import.
        extra: the extra of this project that has them.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if not missing:
        return None
    verb = "is" if len(missing) == 1 else "are"
    return f"{' and '.join(missing)} {verb} not installed: pip install 'decoding-harness[{extra}]'"


def package_version(name: str) -> str | None:
    """Return the version of a distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
