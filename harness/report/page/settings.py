"""A point's settings for a page: what was asked for beside what was in effect, and where it ran."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.store.stored_point import StoredPoint

LONG = 300
"""Characters of a value; prompts written into a config are longer, and stand elsewhere."""

ONLY_EFFECTIVE = ("model_generation_config",)
"""Parts of the effective config that say where its values came from."""


def settings(stored: StoredPoint) -> dict[str, dict[str, str]]:
    """`requested`, `effective` and `environment` as text by dotted key; empty where they were not written."""
    import yaml

    config: Any = None
    if stored.has("config.yaml"):
        # libyaml's loader is ten times as fast, where it was built in.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        config = yaml.load(stored.config_text(), Loader=loader)
    config = config if isinstance(config, Mapping) else {}
    requested, effective = config.get("requested") or {}, config.get("effective") or {}
    if isinstance(requested.get("prompts"), Mapping):
        requested = {**requested, "prompts": _without_texts(requested["prompts"])}
    environment = stored.environment() if stored.has("environment.json") else {}
    return {
        "requested": flat(requested),
        "effective": flat({k: v for k, v in effective.items() if k not in ONLY_EFFECTIVE}),
        "environment": flat(environment),
    }


def _without_texts(prompts: Mapping[str, Any]) -> dict[str, Any]:
    items = prompts.get("items")
    return {**prompts, "items": f"{len(items)} prompts"} if isinstance(items, list) else dict(prompts)


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested maps as one, by dotted key; a value is told as JSON, a string as itself."""
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            found[name] = text if len(text) <= LONG else text[:LONG] + "…"
    return found
