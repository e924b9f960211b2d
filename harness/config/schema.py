"""Hydra's structured config, made from the pydantic models of `point.py`, and the names found in them.

Fields are typed `Any`: Hydra only learns which keys there are, so that a misspelt one is caught while
composing; types, ranges and rules are pydantic's, which finds all mistakes at once. The `name` of a choice
is left out: it is the name of the YAML file that was chosen.
"""

from __future__ import annotations

from dataclasses import field, make_dataclass
from functools import cache, partial
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.config.point import Choice, Point

# Keys of a config that are lists, and no part of a point's choices and values.
SWEEP_KEYS = ("cases", "expect")


@cache
def parts() -> dict[str, type[BaseModel]]:
    """The parts of a Point by name, in its order: model, quantization, ..., tracking."""
    return {
        name: info.annotation
        for name, info in Point.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    }


def choice_parts() -> list[str]:
    """The parts that are config groups, chosen by name."""
    return [name for name, part in parts().items() if issubclass(part, Choice)]


def part_fields(part: str) -> dict[str, FieldInfo]:
    """The keys of a part that can be set, with what is known about each."""
    return {name: info for name, info in parts()[part].model_fields.items() if name != "name"}


@cache
def value_keys() -> tuple[str, ...]:
    """Every dotted key that a command may set: `model.id`, ..., `tracking.traces`."""
    return tuple(f"{part}.{name}" for part in parts() for name in part_fields(part))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _structured(part: str) -> type:
    """A dataclass of one part; a field without a default is OmegaConf's missing value."""
    fields = []
    for name, info in part_fields(part).items():
        default = "???" if info.is_required() else _plain(info.default)
        fields.append((name, Any, field(default_factory=partial(_plain, default))))
    return make_dataclass(part.capitalize(), fields)


def register() -> None:
    """Store the schema of a whole config as `schema`, the base of conf/config.yaml.

    It is no group, so it does not show among the choices.
    """
    from hydra.core.config_store import ConfigStore

    fields: list[Any] = []
    for part in parts():
        structured = _structured(part)
        fields.append((part, structured, field(default_factory=structured)))
    fields += [(key, Any, field(default_factory=list)) for key in SWEEP_KEYS]
    ConfigStore.instance().store(name="schema", node=make_dataclass("Config", fields), provider="harness")
