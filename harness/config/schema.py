"""Hydra's structured config, made from the pydantic models of `point.py`, and the names of all keys.

Hydra only learns which keys exist; types, ranges and rules are pydantic's, which finds all mistakes at once.
The `name` of a choice is left out: it is the name of the YAML file that was chosen.
"""

from __future__ import annotations

from dataclasses import field, make_dataclass
from functools import cache, partial
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.config.point import Choice, Point

LISTS = ("cases", "expect")
"""Top-level keys that are lists, not sections."""
SWEEP_KEYS = (*LISTS, "name")
"""Top-level keys that are no sections: they are about the sweep as a whole."""
MISSING = "???"
"""OmegaConf's missing value."""


@cache
def sections() -> dict[str, type[BaseModel]]:
    """Return the sections of a Point by name, in order: model, quantization, ..., drift."""
    return {
        name: info.annotation
        for name, info in Point.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    }


def choice_sections() -> list[str]:
    """Return the sections that are config groups, chosen by name."""
    return [name for name, section in sections().items() if issubclass(section, Choice)]


def section_fields(section: str) -> dict[str, FieldInfo]:
    """Return the keys of a section that can be set, with their types, defaults and descriptions."""
    return {name: info for name, info in sections()[section].model_fields.items() if name != "name"}


@cache
def value_keys() -> tuple[str, ...]:
    """Return every dotted key that a command may set: `model.id`, ..., `drift.budget_mb`."""
    return tuple(f"{section}.{name}" for section in sections() for name in section_fields(section))


def register() -> None:
    """Store the schema of a whole config as `schema`, the base of conf/config.yaml.

    It is not a group, so it does not appear among the choices.
    """
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    if "schema.yaml" in store.repo:  # once a process: it takes as long as reading a config
        return
    fields: list[Any] = []
    for section in sections():
        structured = _structured(section)
        fields.append((section, structured, field(default_factory=structured)))
    fields += [(key, Any, field(default_factory=list)) for key in LISTS]
    fields.append(("name", Any, None))
    store.store(name="schema", node=make_dataclass("Config", fields), provider="harness")


def _structured(section: str) -> type:
    """A dataclass of one section; a field without a default is OmegaConf's missing value."""
    fields = []
    for name, info in section_fields(section).items():
        default = MISSING if info.is_required() else info.default
        plain: Any = field(default_factory=partial(list, default)) if isinstance(default, tuple) else default
        fields.append((name, Any, plain))
    return make_dataclass(section.capitalize(), fields)
