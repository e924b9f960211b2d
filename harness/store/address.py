"""A point's address: a hash of everything that its samples depend on, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def point_id(facts: Mapping[str, Any]) -> str:
    """Return the address of `facts`: sixteen hex digits (JSON values; the order of keys does not matter)."""
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def digest(values: Any) -> str:
    """Return a short hash of JSON values, for long facts such as the prompts."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:24]
