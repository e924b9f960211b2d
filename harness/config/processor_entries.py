"""Code that a config names: what to load, with what arguments.

The entries of `decoding.processors`, each of which acts at some place, and the loop of `decoding.generate`.
"""

from __future__ import annotations

import json
import keyword
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.config.plugins import PROCESSORS, plugin, unknown_plugin
from harness.config.suggest import did_you_mean
from harness.errors import ConfigError, Mistake

Place = Literal["before", "after"]
PLACES: tuple[Place, ...] = ("before", "after")
KEY = "decoding.processors"
LOOP_KEY = "decoding.generate"
_FORM = "must be FILE.py:CLASS or package.module:CLASS"
_PLAIN = re.compile(r"[a-zA-Z_][\w./-]*(:\w+)?")
_NO_TEXT = ("true", "false", "null", "on", "off", "yes", "no", "inf", "nan")


@dataclass(frozen=True)
class ProcessorEntry:
    """A logits processor of one's own.

    Attributes:
        path: `FILE.py:CLASS` or `package.module:CLASS`; a function is as good as a class. The name of a
            plug-in is resolved.
        place: before the samplers, or after them.
        arguments: keyword arguments of the class or function.
        among: the entries of its config, None in its own place.
    """

    path: str
    place: Place = "before"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    among: Sequence[Any] = (None,)

    @property
    def source(self) -> str:
        """The file or module."""
        return self.path.rpartition(":")[0]

    @property
    def name(self) -> str:
        """The name in it."""
        return self.path.rpartition(":")[2]

    @property
    def is_file(self) -> bool:
        """Whether it is in a file, not in a module that Python finds."""
        return self.source.endswith(".py")

    @property
    def key(self) -> str:
        """What a message calls it."""
        return f"{KEY}={self.path}"

    def meant(self, *, path: str | None = None, arguments: Mapping[str, Any] | None = None) -> str:
        """Return the question whether the override with another path or other arguments was meant."""
        right: dict[str, Any] = {"path": path or self.path}
        if self.place != "before":
            right["place"] = self.place
        right |= self.arguments if arguments is None else arguments
        value = right["path"] if len(right) == 1 else right
        return f"; did you mean {typed_entries([value if one is None else one for one in self.among])}?"


@dataclass(frozen=True)
class LoopEntry(ProcessorEntry):
    """A decoding loop of one's own; it has no place."""

    @property
    def key(self) -> str:
        """What a message calls it."""
        return f"{LOOP_KEY}={self.path}"

    def meant(self, *, path: str | None = None, arguments: Mapping[str, Any] | None = None) -> str:
        """Return the question whether the override with another path or other arguments was meant."""
        right = {"path": path or self.path, **(self.arguments if arguments is None else arguments)}
        value = right["path"] if len(right) == 1 else right
        return f"; did you mean {shlex.quote(f'{LOOP_KEY}={typed_value(value)}')}?"


def loop_entry(value: str | Mapping[str, Any]) -> LoopEntry:
    """Return the loop of a config, whose form is right."""
    mapping: Mapping[str, Any] = {"path": value} if isinstance(value, str) else value
    return LoopEntry(mapping["path"], arguments={key: one for key, one in mapping.items() if key != "path"})


def loop_rules(value: str | Mapping[str, Any] | None) -> Iterator[Mistake]:
    """Yield what is wrong with the form of a loop."""
    mapping = {"path": value} if isinstance(value, str) else value or {}
    path = mapping.get("path")
    if not isinstance(path, str):
        yield Mistake(LOOP_KEY, "has no path; a mapping is {path: FILE.py:FUNCTION, NAME: VALUE}")
    elif not _names_code(path):
        yield Mistake(f"{LOOP_KEY}={path}", _FORM.replace("CLASS", "FUNCTION"))
    elif wrong := [key for key in mapping if not _is_name(key)]:
        yield Mistake(
            f"{LOOP_KEY}={path}", f"{wrong[0]!r} is no name of an argument; {path} has none like it"
        )


def processor_entries(values: Sequence[str | Mapping[str, Any]]) -> list[ProcessorEntry]:
    """Return the entries of a config, whose form is right."""
    entries = []
    for index, value in enumerate(values):
        among = (*values[:index], None, *values[index + 1 :])
        mapping: Mapping[str, Any] = {"path": value} if isinstance(value, str) else value
        arguments = {key: one for key, one in mapping.items() if key not in ("path", "place")}
        entries.append(
            ProcessorEntry(_resolved(mapping["path"]), mapping.get("place", "before"), arguments, among)
        )
    return entries


def entry_rules(values: Sequence[str | Mapping[str, Any]]) -> Iterator[Mistake]:
    """Yield what is wrong with the form of entries."""
    for index, value in enumerate(values):
        mapping = {"path": value} if isinstance(value, str) else value
        path, place = mapping.get("path"), mapping.get("place", "before")
        where = f"{KEY}={path}" if isinstance(path, str) else f"{KEY}[{index}]"
        if not isinstance(path, str):
            hint = did_you_mean("path", [key for key in mapping if key != "place"])
            example = "{path: FILE.py:CLASS, place: before, NAME: VALUE}"
            yield Mistake(where, f"has no path{hint}; a mapping is {example}")
            continue
        if problem := _wrong_path(path, where):
            yield Mistake(where, problem)
        elif place not in PLACES:
            cure = [*values[:index], {**mapping, "place": "before"}, *values[index + 1 :]]
            yield Mistake(where, f"place is {place!r}, not before or after; use {typed_entries(cure)}")
        elif wrong := [key for key in mapping if not _is_name(key)]:
            yield Mistake(where, f"{wrong[0]!r} is no name of an argument; {path} has none like it")


def _wrong_path(path: str, where: str) -> str | None:
    """Return what is wrong with the form of a path: it names code, or a plug-in."""
    if ":" in path or path.endswith(".py"):
        return None if _names_code(path) else _FORM
    try:
        known = plugin(PROCESSORS, path, where)
    except ConfigError as error:
        return error.mistakes[0].message
    return None if known else f"{_FORM}; {unknown_plugin(PROCESSORS, path)}"


def _resolved(path: str) -> str:
    """Return the reference of a plug-in that is named, else the path as it is."""
    if ":" in path:
        return path
    found = plugin(PROCESSORS, path, f"{KEY}={path}")
    return found.reference if found else path


def typed_entries(values: Sequence[str | Mapping[str, Any]]) -> str:
    """Return the override that sets entries, as a shell reads it."""
    return shlex.quote(f"{KEY}={typed_value(list(values))}")


def typed_value(value: Any) -> str:
    """Return a value in Hydra's grammar, whose mappings have keys without quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {typed_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(typed_value, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _NO_TEXT:
        return value
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text=value, quote=Quote.double).with_quotes()


def _names_code(path: str) -> bool:
    source, _, name = path.rpartition(":")
    found = source.endswith(".py") or all(_is_name(module) for module in source.split("."))
    return bool(source) and found and _is_name(name)


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and text.isidentifier() and not keyword.iskeyword(text)
