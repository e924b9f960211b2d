"""The code of one's own of a strategy, checked when a sweep is planned: what it is and takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.processor_entries import ProcessorEntry, loop_entry, processor_entries
from harness.config.suggest import most_similar
from harness.decoding.chance_in_source import chance_in
from harness.decoding.own_code import ZOO, load_code, read_code, source_of
from harness.errors import ConfigError, Mistake

GIVEN = ("tokenizer", "model", "device", "batch_size")
"""Arguments that a class or function gets where it takes them and the config does not set them."""

LOOP_TAKES = ("model", "prompts", "max_new_tokens", "seeds", "settings")
"""What a decoding loop is called with, in this order."""
LOOP_GIVEN = ("tokenizer", "device")
"""Arguments that it gets where it takes them and the config does not set them."""

_TRUSTED = (ZOO, "transformers")
_PROCESSOR_TAKES = ("input_ids", "scores")
_OF_TIME = "a sample must not depend on the speed of the machine"


@dataclass(frozen=True)
class PlannedCode:
    """A strategy's own processors, or its loop, ready to be loaded.

    Attributes:
        fields: what they make of the effective decoding: each is a mapping of `path`, `place` (of a
            processor), `code` (hash or version) and `arguments`; empty where there are none.
        warnings: one line each.
    """

    fields: Mapping[str, Any]
    warnings: tuple[str, ...]


def planned_processors(values: Sequence[str | Mapping[str, Any]]) -> PlannedCode:
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
        notes += _notes(entry, code, target)
        arguments = dict(entry.arguments)
        entries.append({"path": entry.path, "place": entry.place, "code": code, "arguments": arguments})
    if mistakes:
        raise ConfigError(mistakes)
    return PlannedCode({"processors": entries} if entries else {}, tuple(notes))


def planned_loop(value: str | Mapping[str, Any] | None) -> PlannedCode:
    """Return what `decoding.generate` names; its code is run, and the loop is not.

    Raises:
        ConfigError: with every mistake in it.
    """
    if value is None:
        return PlannedCode({}, ())
    entry = loop_entry(value)
    code = read_code(entry)
    target = load_code(entry, code)
    if inspect.isclass(target) or not inspect.isroutine(target):
        what = "class" if inspect.isclass(target) else f"object of type {type(target).__name__}"
        raise ConfigError.of(entry.key, f"{entry.name} is no function but a {what}; name a function")
    wrong = _wrong_arguments(entry, target, LOOP_TAKES, LOOP_GIVEN)
    if mistakes := [Mistake(entry.key, message) for message in wrong]:
        raise ConfigError(mistakes)
    fields = {"path": entry.path, "code": code, "arguments": dict(entry.arguments)}
    return PlannedCode({"generate": fields}, tuple(_notes(entry, code, target)))


def _notes(entry: ProcessorEntry, code: str, target: Any) -> Iterator[str]:
    """Yield what in the source may be another at each run."""
    top = str(getattr(target, "__module__", "")).partition(".")[0]
    if top not in _TRUSTED and (found := chance_in(source_of(entry, code, target))):
        what, line = found
        yield (
            f"{entry.key}: line {line} uses {what}; samples may differ from run to run, "
            "unless it is seeded in the same way each time"
        )


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
    yield from _wrong_arguments(entry, target, () if is_class else _PROCESSOR_TAKES, GIVEN)
    yield from _wrong_of_zoo(entry, target)


def _takes(function: Any, count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # it tells no signature
        return True
    return True


def _wrong_arguments(
    entry: ProcessorEntry, target: Any, takes: Sequence[str], given: Sequence[str]
) -> Iterator[str]:
    """Yield what is wrong with arguments: `takes` are those that come first, `given` others that may come."""
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(places) < len(takes) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        yield f"{entry.name} must take ({', '.join(takes)})"
        return
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)][len(takes) :]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = [name for name in entry.arguments if name not in names and not open_ended]
    for name in unknown:
        meant = most_similar(name, [*names, *(["place"] if given is GIVEN else [])])
        hint = ""
        if meant and meant not in entry.arguments:  # `place` is no argument, but may be meant
            right = {meant if key == name else key: value for key, value in entry.arguments.items()}
            hint = entry.meant(arguments=right)
        free = ", ".join(one for one in names if one not in given) or "none"
        yield f"{entry.name} has no argument {name}{hint} (arguments: {free})"
    needed = [p.name for p in parameters if p.default is p.empty and p.name in names]
    missing = [name for name in needed if name not in entry.arguments and name not in given]
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
