"""The processors of one's own of a strategy, checked when a sweep is planned: what they are and take."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.processor_entries import ProcessorEntry, processor_entries
from harness.config.suggest import most_similar
from harness.decoding.chance_in_source import chance_in
from harness.decoding.own_code import ZOO, load_code, read_code, source_of
from harness.errors import ConfigError, Mistake

GIVEN = ("tokenizer", "model", "device", "batch_size")
"""Arguments that a class or function gets where it takes them and the config does not set them."""

_TRUSTED = (ZOO, "transformers")
_OF_TIME = "a sample must not depend on the speed of the machine"


@dataclass(frozen=True)
class PlannedProcessors:
    """A strategy's own processors, ready to be loaded.

    Attributes:
        fields: what they make of the effective decoding: each is a mapping of `path`, `place`, `code` (hash
            or version) and `arguments`; empty where there are none.
        warnings: one line each.
    """

    fields: Mapping[str, Any]
    warnings: tuple[str, ...]


def planned_processors(values: Sequence[str | Mapping[str, Any]]) -> PlannedProcessors:
    """Return what the entries of a config name; their code is run, and no object is made.

    Raises:
        ConfigError: with every mistake in the entries.
    """
    mistakes: list[Mistake] = []
    entries: list[dict[str, Any]] = []
    notes: list[str] = []
    for entry in processor_entries(values):
        try:
            code = read_code(entry)
            target = load_code(entry, code)
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        mistakes += [Mistake(entry.key, message) for message in _wrong(entry, target)]
        top = str(getattr(target, "__module__", "")).partition(".")[0]
        if top not in _TRUSTED and (found := chance_in(source_of(entry, code, target))):
            what, line = found
            notes.append(
                f"{entry.key}: line {line} uses {what}; samples may differ from run to run, "
                "unless it is seeded in the same way each time"
            )
        arguments = dict(entry.arguments)
        entries.append({"path": entry.path, "place": entry.place, "code": code, "arguments": arguments})
    if mistakes:
        raise ConfigError(mistakes)
    return PlannedProcessors({"processors": entries} if entries else {}, tuple(notes))


def _wrong(entry: ProcessorEntry, target: Any) -> Iterator[str]:
    """Yield what is wrong with a loaded entry."""
    is_class = inspect.isclass(target)
    if not is_class and not inspect.isroutine(target):
        what = f"{entry.name} is an object of type {type(target).__name__}"
        advice = (
            "name its class: each text gets an object of its own"
            if callable(target)
            else ("name a class or a function")
        )
        yield f"{what}; {advice}"
        return
    if is_class:
        call = next((vars(one)["__call__"] for one in target.__mro__ if "__call__" in vars(one)), None)
        if call is None:
            yield f"{entry.name} has no __call__; it needs __call__(self, input_ids, scores)"
            return
        if not _takes(call, 3):
            yield f"{entry.name}.__call__ must take (self, input_ids, scores)"
    yield from _wrong_arguments(entry, target, 0 if is_class else 2)
    yield from _wrong_of_zoo(entry, target)


def _takes(function: Any, count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # it tells no signature
        return True
    return True


def _wrong_arguments(entry: ProcessorEntry, target: Any, positional: int) -> Iterator[str]:
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(places) < positional and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        yield f"{entry.name} must take (input_ids, scores)"
        return
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)][positional:]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = [name for name in entry.arguments if name not in names and not open_ended]
    for name in unknown:
        meant = most_similar(name, [*names, "place"])
        hint = ""
        if meant and meant not in entry.arguments:  # `place` is no argument, but may be meant
            right = {meant if key == name else key: value for key, value in entry.arguments.items()}
            hint = entry.meant(arguments=right)
        free = ", ".join(one for one in names if one not in GIVEN) or "none"
        yield f"{entry.name} has no argument {name}{hint} (arguments: {free})"
    needed = [p.name for p in parameters if p.default is p.empty and p.name in names]
    missing = [name for name in needed if name not in entry.arguments and name not in GIVEN]
    if missing and not unknown:
        example = f"{{path: {entry.path}, {', '.join(f'{name}: VALUE' for name in missing)}}}"
        yield f"{entry.name} needs the argument {missing[0]}; give it beside the path, as in {example}"


def _wrong_of_zoo(entry: ProcessorEntry, target: Any) -> Iterator[str]:
    """Yield why a class of logits-processor-zoo is refused: two of them read the clock."""
    if not str(getattr(target, "__module__", "")).startswith(ZOO):
        return
    if target.__name__ == "MaxTimeLogitsProcessor":
        yield f"ends texts by the clock: {_OF_TIME}; limit them with generation.max_new_tokens"
    if entry.arguments.get("trigger_time") is not None:
        yield f"trigger_time is by the clock: {_OF_TIME}; give trigger_token_phrase, a text of one token"
