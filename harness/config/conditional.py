"""Conditional keys: what a command sets beside its choices goes to those that use it, and collapses others.

`decoding=greedy,top_p decoding.top_p=0.8,0.9 generation.samples=3` is greedy once and top_p twice: a key that
a strategy does not use has the value there that its own file gives, and of a deterministic strategy one
sample is taken. A key that no point of the command uses stays, and is the mistake that it is of a single
point.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from harness.config.decoding import Decoding
from harness.config.effective import decoding_fields, most_samples
from harness.config.no_effect import NoEffect
from harness.config.point import Generation
from harness.config.rules import check_rules
from harness.config.schema import section_fields
from harness.config.validation import format_value, read_section

OwnValues = Callable[[str, str], Mapping[str, Any]]
"""A section and its choice -> what each key has there by itself, as JSON-able data."""

_CONDITIONAL = ("backend", "decoding", "quantization", "cache")
"""The sections of which a choice may leave keys without an effect."""
_MOST_NAMES, _MOST_VALUES = 6, 6
_OF_A_SEARCH = (
    "num_beams", "penalty_alpha", "cot_branches", "stochastic_beams", "num_beam_groups", "diversity_penalty",
    "force_words", "force_words_ids", "generate",
)  # fmt: skip
"""Fields that make a strategy what it is."""


@dataclass(frozen=True)
class Candidate:
    """A point to be.

    Attributes:
        sections: those that are right.
        fixed: keys that its case sets together with their choice, which are left as they are.
        notes: what it does not use of the command, one line each.
    """

    sections: Mapping[str, BaseModel]
    fixed: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def applied(candidates: Sequence[Candidate], own_values: OwnValues) -> list[Candidate]:
    """Return the candidates of one command, each without what it does not use but another one does."""
    found = list(candidates)
    for section in _CONDITIONAL:
        choices = {_name(one, section) for one in found if section in one.sections}
        if len(choices) > 1:
            own = {choice: own_values(section, choice) for choice in sorted(choices)}
            if any(_invalid(section, values) for values in own.values()):
                continue  # the file of a choice is wrong, which is said
            found = _without(found, section, own, _of_others)
            found = _without(found, section, own, _without_effect)
    return _deterministic(found)


def _invalid(section: str, values: Mapping[str, Any]) -> bool:
    return bool(read_section(section, {**values, "name": "x"})[1])


def _without(
    candidates: Sequence[Candidate],
    section: str,
    own: Mapping[str, Mapping[str, Any]],
    unused: Callable[[Candidate, str, Mapping[str, Mapping[str, Any]]], set[str]],
) -> list[Candidate]:
    """The candidates with the keys of a section that they do not use at their choice's own values."""
    at = [unused(one, section, own) if section in one.sections else set() for one in candidates]
    used = {
        key
        for one, keys in zip(candidates, at, strict=True)
        for key in _set_keys(one, section)
        if key not in keys
    }
    at = [{key for key in keys if key in used} for keys in at]
    if not any(at):
        return list(candidates)
    names: dict[str, list[str]] = {}
    values: dict[str, list[Any]] = {}
    for one, keys in zip(candidates, at, strict=True):
        for key in keys:
            _add(names.setdefault(key, []), _name(one, section))
            _add(values.setdefault(key, []), getattr(one.sections[section], key))
    lines = dict(_lines(section, names, values))
    found = []
    for one, keys in zip(candidates, at, strict=True):
        if keys:
            its = own[_name(one, section)]
            before = one.sections[section]
            values_left = before.model_dump(mode="json") | {key: its[key] for key in keys}
            after = type(before).model_validate_json(json.dumps(values_left))
            notes = (*one.notes, *(lines[key] for key in section_fields(section) if key in keys))
            one = Candidate({**one.sections, section: after}, one.fixed, tuple(dict.fromkeys(notes)))
        found.append(one)
    return found


def _of_others(one: Candidate, section: str, own: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The keys that other strategies of the command are about, and this one is not: top_p beside min_p.

    A temperature, a length or a filter is of no strategy: it applies to all.
    """
    if section != "decoding":
        return set()
    fields = decoding_fields(
        "guidance", "temperature", "truncation", "penalty", "bias", "order", "structure", "watermark"
    )
    del fields["temperature"]
    fields |= {name: decoding_fields()[name] for name in _OF_A_SEARCH}
    its = own[_name(one, section)]
    return {
        key
        for key, field in fields.items()
        if getattr(one.sections[section], key) != its[key]
        and f"{section}.{key}" not in one.fixed
        and its[key] in (None, field.neutral)
        and any(values[key] not in (None, field.neutral) for values in own.values())
    }


def _without_effect(one: Candidate, section: str, own: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The keys that a rule says to have no effect, and that the choice has not set itself."""
    wrong = check_rules({section: one.sections[section]})
    keys = {
        mistake.key.partition("=")[0].rpartition(".")[2] for mistake in wrong if isinstance(mistake, NoEffect)
    }
    values = one.sections[section].model_dump(mode="json")
    its = own[_name(one, section)]
    return {key for key in keys if values[key] != its[key] and f"{section}.{key}" not in one.fixed}


def _deterministic(candidates: Sequence[Candidate]) -> list[Candidate]:
    """One seed of each strategy that draws nothing, and as many samples as it has, if others have more."""
    both = [one for one in candidates if {"decoding", "generation"} <= one.sections.keys()]
    most = {id(one): most_samples(_decoding(one)) for one in both}
    still = [one for one in both if most[id(one)] is not None]
    if len(set(most.values())) < 2:
        return list(candidates)
    first = _generation(still[0]).seed
    changes: dict[int, dict[str, Any]] = {}
    names: dict[str, list[str]] = {}
    values: dict[str, list[Any]] = {}
    for one in still:
        generation, limit = _generation(one), most[id(one)] or 1
        change = {}
        if "generation.samples" not in one.fixed and generation.samples > limit:
            change["samples"] = limit
        if len(still) < len(both):
            change["seed"] = first
        changes[id(one)] = change
        for key in change if limit == 1 else change.keys() - {"samples"}:
            _add(names.setdefault(key, []), _name(one, "decoding"))
            _add(values.setdefault(key, []), getattr(generation, key))
    lines = {}
    if several := values.get("samples"):
        text, who = _setting("generation.samples", several), names["samples"]
        takes = "takes" if len(who) == 1 else "take"
        lines["samples"] = (
            f"{text}: {_joined(who)} {_are(who)} deterministic and {takes} one sample per prompt"
        )
    if len(values.get("seed", [])) > 1:
        text, who = _setting("generation.seed", values["seed"]), names["seed"]
        runs = "runs" if len(who) == 1 else "run"
        lines["seed"] = f"{text}: {_joined(who)} {_are(who)} deterministic and {runs} once"
    found = []
    for one in candidates:
        if change := changes.get(id(one), {}):
            generation = _generation(one)
            its = {key: lines[key] for key in change if key in lines}
            if (limit := change.get("samples", 1)) > 1:
                text = _setting("generation.samples", [generation.samples])
                its["samples"] = f"{text}: {_name(one, 'decoding')} has {limit} outputs per prompt"
            notes = (*one.notes, *its.values())
            sections = {**one.sections, "generation": generation.model_copy(update=change)}
            one = Candidate(sections, one.fixed, notes)
        found.append(one)
    return found


def _lines(
    section: str, names: Mapping[str, Sequence[str]], values: Mapping[str, Sequence[Any]]
) -> Iterator[tuple[str, str]]:
    """By key the line about it; keys that the same choices do not use share one."""
    for key, who in names.items():
        together = [other for other in section_fields(section) if names.get(other) == who]
        settings = ", ".join(_setting(f"{section}.{other}", values[other]) for other in together)
        it = "it" if len(together) == 1 else "them"
        runs = "runs" if len(who) == 1 else "run"
        swept = any(len(values[other]) > 1 for other in together)
        line = f"{settings}: not used by {_joined(who)}, which {runs} without {it}"
        yield key, line + (", not once per value" if swept else "")


def _set_keys(one: Candidate, section: str) -> list[str]:
    """The keys of a section whose values are not the schema's defaults."""
    if section not in one.sections:
        return []
    return [
        key
        for key, info in section_fields(section).items()
        if getattr(one.sections[section], key) != info.default
    ]


def _setting(key: str, values: Sequence[Any]) -> str:
    texts = [format_value(value) for value in values[:_MOST_VALUES]]
    return f"{key}={','.join(texts)}" + (",..." if len(values) > _MOST_VALUES else "")


def _joined(names: Sequence[str]) -> str:
    """Names in a sentence: `greedy`, `greedy and beam`, `a, b and 3 more`."""
    if len(names) > _MOST_NAMES:
        return f"{', '.join(names[: _MOST_NAMES - 1])} and {len(names) - _MOST_NAMES + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _add(values: list[Any], value: Any) -> None:
    if value not in values:
        values.append(value)


def _name(one: Candidate, section: str) -> str:
    return str(one.sections[section].name)  # type: ignore[attr-defined]


def _decoding(one: Candidate) -> Decoding:
    found = one.sections["decoding"]
    assert isinstance(found, Decoding)
    return found


def _generation(one: Candidate) -> Generation:
    found = one.sections["generation"]
    assert isinstance(found, Generation)
    return found
