"""A point's address: a hash of everything its samples depend on, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

# Raise it when the engine makes other samples, or records them otherwise, than it did before.
ENGINE_VERSION = 1

_LIBRARIES = ("torch", "transformers", "bitsandbytes")


def library_versions() -> dict[str, str | None]:
    """Versions of the libraries whose arithmetic the samples depend on, read without importing them."""
    versions: dict[str, str | None] = {}
    for library in _LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = None
    return versions


def point_id(facts: Mapping[str, Any]) -> str:
    """Sixteen hex digits that name `facts` (JSON values; the order of keys does not matter)."""
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def digest(values: Any) -> str:
    """A short hash of JSON values, for long facts such as the prompts."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:24]
