"""The params of runs: what varies in the sweep, and what differs from the defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from harness.analysis.point_results import CHOICES
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import SweepPoint
from harness.tracking.facts import mlflow_key

MAX_PARAM = 6000
"""Longest param, in characters."""

SECTIONS = ("model", "backend", "quantization", "cache", "prompts", "decoding", "generation")
"""Sections of the config on which samples depend; the whole config is an artifact, config.yaml."""

IMPLIED = {"prompts.items", "quantization.dtype", "decoding.do_sample"}
"""Keys that say nothing beside the choice's name, or are the data itself."""


def point_params(point: SweepPoint, stored: StoredPoint) -> dict[str, str]:
    """Return the params of a point: its choices, what varies in its sweep, and what is not the default.

    A value that the strategy did not take as it was requested is below `effective.` too.
    """
    config = stored.config() if stored.has("config.yaml") else {}
    params: dict[str, Any] = {name: getattr(point, name) for name in CHOICES}
    params |= {key: value for key, value in point.varied.items() if value is not None}
    requested = config.get("requested") or {}
    if (backend := (requested.get("backend") or {}).get("name", "hf")) != "hf":
        params["backend"] = backend
    for section in SECTIONS:
        values = requested.get(section)
        if isinstance(values, Mapping):
            params |= {f"{section}.{key}": value for key, value in _changed(section, values)}
    effective = config.get("effective") or {}
    for key, value in _differing(requested.get("decoding") or {}, effective.get("decoding") or effective):
        params[f"effective.decoding.{key}"] = value
    return {mlflow_key(key): text_of(value) for key, value in params.items()}


def varied_params(points: Sequence[SweepPoint]) -> dict[str, str]:
    """Return the params of a parent run: every key that varies in the sweep, with its values."""
    values: dict[str, list[str]] = {}
    for point in points:
        for key, value in point.varied.items():
            values.setdefault(mlflow_key(key), []).append(text_of(value))
    return {key: ", ".join(dict.fromkeys(texts))[:MAX_PARAM] for key, texts in values.items()}


def text_of(value: Any) -> str:
    """Return a value as a param: a number without the noise of its last bits, lists and mappings as JSON."""
    if isinstance(value, float):
        text = f"{value:.12g}"
    elif isinstance(value, bool | list | tuple | Mapping):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    return text[:MAX_PARAM]


def _changed(section: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the values of a section that are not the schema's defaults."""
    known = _defaults().get(section, {})
    for key, value in values.items():
        implied = (
            key == "name" or f"{section}.{key}" in IMPLIED or (key == "id" and value == values.get("name"))
        )
        if value is not None and not implied and value != known.get(key):
            yield key, value


def _differing(requested: Mapping[str, Any], effective: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the effective values of keys that were requested otherwise."""
    for key, value in requested.items():
        if key in effective and value is not None and effective[key] != value:
            yield key, effective[key]


@cache
def _defaults() -> dict[str, dict[str, Any]]:
    """Return the default of every key of the config, as JSON has it, by section."""
    from harness.config.point import Point

    defaults: dict[str, dict[str, Any]] = {}
    for section in SECTIONS:
        fields = getattr(Point.model_fields[section].annotation, "model_fields", {})
        values = {
            key: field.get_default(call_default_factory=True)
            for key, field in fields.items()
            if not field.is_required()
        }
        defaults[section] = json.loads(json.dumps(values, default=str))
    return defaults
