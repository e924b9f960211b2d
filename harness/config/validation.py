"""Are the values right? pydantic's findings on a composed config, as mistakes in the harness's words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from harness.config.expectation import Expectation
from harness.config.schema import choice_parts, part_fields, parts
from harness.config.suggest import did_you_mean
from harness.errors import Mistake

MISSING = "???"


def read_parts(config: Mapping[str, Any]) -> tuple[dict[str, BaseModel], list[Mistake]]:
    """The parts of a Point that are right, and what is wrong with the others.

    Args:
        config: a composed config as plain dicts and lists, the names of the choices filled in.
    """
    good: dict[str, BaseModel] = {}
    mistakes: list[Mistake] = []
    for name in parts():
        try:
            text = json.dumps(config.get(name) or {})
        except (TypeError, ValueError) as error:
            mistakes.append(Mistake(name, f"holds a value that is no plain YAML: {error}"))
            continue
        part, wrong = _read(name, text)
        mistakes += wrong
        if part is not None:
            good[name] = part
    return good, mistakes


def read_expectations(expect: Any) -> tuple[tuple[Expectation, ...], list[Mistake]]:
    """The entries of `expect` that are right, and what is wrong with the others."""
    if expect in (None, []):
        return (), []
    if not isinstance(expect, list) or not all(isinstance(entry, dict) for entry in expect):
        return (), [
            Mistake(f"expect={shown(expect)}", "must be a list of mappings, [{prompt: ID, output: TEXT}]")
        ]
    good, mistakes = [], []
    for place, entry in enumerate(expect):
        try:
            good.append(Expectation.model_validate_json(json.dumps(entry)))
        except ValidationError as error:
            mistakes += [
                _wrong_expectation(f"expect[{place}]", entry, detail)
                for detail in error.errors(include_url=False)
            ]
        except TypeError as error:
            mistakes.append(Mistake(f"expect[{place}]", f"holds a value that is no plain YAML: {error}"))
    return tuple(good), list(dict.fromkeys(mistakes))


def _wrong_expectation(where: str, entry: Mapping[str, Any], detail: Any) -> Mistake:
    key = str(detail["loc"][0])
    known = Expectation.model_fields
    if key not in known:
        return Mistake(f"{where}.{key}", f"no such key{did_you_mean(key, list(known))}")
    text = f"{where}.{key}={shown(entry.get(key))}"
    takes = _words(Expectation.model_json_schema()["properties"][key])
    return Mistake(text, _range(detail) or f"must be {takes}")


@lru_cache(maxsize=4096)
def _read(name: str, text: str) -> tuple[BaseModel | None, tuple[Mistake, ...]]:
    """One part from JSON: a list is good for a tuple there, everything else stays strict."""
    try:
        return parts()[name].model_validate_json(text), ()
    except ValidationError as error:
        return None, tuple(_mistakes(name, json.loads(text), error))


def shown(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _mistakes(part: str, values: Mapping[str, Any], error: ValidationError) -> list[Mistake]:
    """One mistake a key, however many ways pydantic tried to read its value."""
    found: dict[str, Mistake] = {}
    for detail in error.errors(include_url=False):
        key = str(detail["loc"][0]) if detail["loc"] else ""
        if key and key not in found:
            found[key] = _mistake(part, key, values, detail)
    return list(found.values())


def _mistake(part: str, key: str, values: Mapping[str, Any], detail: Any) -> Mistake:
    dotted = f"{part}.{key}"
    if key not in part_fields(part):
        return Mistake(dotted, "no such key")
    value = values.get(key)
    text = f"{dotted}={shown(value)}"
    if value is None and part_fields(part)[key].is_required():
        example = "HUB-ID-OR-FOLDER" if dotted == "model.id" else "..."
        return Mistake(dotted, f"must be given: {dotted}={example}")
    if dotted == "decoding.temperature" and value == 0 and not isinstance(value, bool):
        return Mistake(text, "that is decoding=greedy; a temperature must be above 0")
    message = _range(detail) if len(detail["loc"]) == 1 else None
    if message is None:
        message = f"must be {describe(part, key)}"
        if "text" in describe(part, key).split(" or ") and isinstance(value, (int, float)):
            message += f"""; quote it: "{dotted}='{shown(value)}'\""""
    return Mistake(text, message)


def _range(detail: Any) -> str | None:
    """A range that a value of the right type has left."""
    bounds = detail.get("ctx", {})
    words = {
        "greater_than": f"must be above {bounds.get('gt')}",
        "greater_than_equal": f"must be at least {bounds.get('ge')}",
        "less_than": f"must be below {bounds.get('lt')}",
        "less_than_equal": f"must be at most {bounds.get('le')}",
        "finite_number": "must be a finite number",
    }
    said = words.get(detail["type"])
    return None if said is None else said.replace(".0", "")


def describe(part: str, key: str) -> str:
    """What a key takes, in words: `a number above 0 and at most 1`, `auto or a whole number from 1`."""
    schema = parts()[part].model_json_schema()["properties"][key]
    return _words(schema)


def _words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        options = [_words(option) for option in schema["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(options))
    if "const" in schema:
        return shown(schema["const"])
    if "enum" in schema:
        return _listing([shown(value) for value in schema["enum"]])
    kind = schema.get("type")
    if kind in ("number", "integer"):
        word = "a number" if kind == "number" else "a whole number"
        names = {
            "exclusiveMinimum": "above",
            "minimum": "from",
            "exclusiveMaximum": "below",
            "maximum": "at most",
        }
        bounds = [f"{names[name]} {schema[name]:g}" for name in names if name in schema]
        return " ".join([word, " and ".join(bounds)]).strip()
    if kind == "array":
        inner = schema.get("items") or {}
        several = schema.get("prefixItems")
        if several:
            return f"a list [{', '.join(_words(item) for item in several)}]"
        return f"a list, each {_words(inner)}" if inner else "a list"
    return {"boolean": "true or false", "string": "text", "object": "a mapping"}.get(
        str(kind), "something else"
    )


def _listing(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def named(config: dict[str, Any], choices: Mapping[str, Any], own: Set[str]) -> dict[str, Any]:
    """The config with each choice's name filled in.

    What is the user's own is not named as the choice it took the place of: a model by the last component of
    its id (`Qwen2-0.5B`), prompts by their file (`mine` of `mine.jsonl`), those given inline as `custom`.
    """
    config = {name: dict(values) if isinstance(values, dict) else values for name, values in config.items()}
    for part in choice_parts():
        config.setdefault(part, {})["name"] = str(choices.get(part))
    custom = {part for part in choice_parts() if choices.get(part) == "custom"}
    model = config["model"]
    if model.get("id") == MISSING:
        model["id"] = None
    elif "model" in own | custom and isinstance(model.get("id"), str):
        model["name"] = model["id"].rstrip("/").rpartition("/")[2] or model["id"]
    if "prompts" in own | custom:
        file = config["prompts"].get("file")
        config["prompts"]["name"] = (isinstance(file, str) and Path(file).stem) or "custom"
    return config
