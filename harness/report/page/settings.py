"""A point's settings for a page: the requested config beside the effective one, and the environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.config.point import Cache, Quantization
from harness.store.stored_point import StoredPoint

LONGEST = 300
"""Characters of a value that are shown; prompts written into a config are longer, and shown elsewhere."""


def settings(stored: StoredPoint) -> dict[str, dict[str, str]]:
    """Return `requested`, `effective` and `environment` as text by dotted key; empty where not written."""
    config = stored.config() if stored.has("config.yaml") else {}
    requested, effective = config.get("requested") or {}, config.get("effective") or {}
    prompts = requested.get("prompts") or {}
    if isinstance(items := prompts.get("items"), list):
        requested = {**requested, "prompts": {**prompts, "items": f"{len(items)} prompts"}}
    requested = {
        name: _with_effect(name, section) if name in ("quantization", "cache") else section
        for name, section in requested.items()
    }
    return {
        "requested": flattened(requested),
        # Without the section that says where values came from.
        "effective": flattened({k: v for k, v in effective.items() if k != "model_generation_config"}),
        "environment": flattened(stored.environment() if stored.has("environment.json") else {}),
    }


def _with_effect(name: str, section: Any) -> Any:
    """Return a section without the keys that its choice does not use; one of another version as it is."""
    from harness.config.rules import keys_without_effect
    from harness.config.validation import read_section

    found, mistakes = read_section(name, section) if isinstance(section, dict) else (None, [])
    if mistakes or not isinstance(found, Quantization | Cache):
        return section
    unused = keys_without_effect(found)
    return {key: value for key, value in section.items() if key not in unused}


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested maps as one, by dotted key; strings stay as they are, other values become JSON."""
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= flattened(value, f"{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            found[name] = text if len(text) <= LONGEST else text[:LONGEST] + "…"
    return found
