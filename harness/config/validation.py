"""The values of a composed config, checked: pydantic's errors become mistakes in the harness's words."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence, Set
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from harness.config.base import LARGEST, SIZE
from harness.config.expectation import Expectation
from harness.config.schema import MISSING, choice_sections, section_fields, sections
from harness.config.suggest import did_you_mean, most_similar
from harness.config.text_file import AS_UTF8, not_unicode
from harness.errors import Mistake


def with_choice_names(config: dict[str, Any], choices: Mapping[str, Any], custom: Set[str]) -> dict[str, Any]:
    """Return the config with the name of each choice filled in.

    A custom section is not named after the choice that it replaces: a model has the last component of its id
    (`Qwen2-0.5B`), prompts the name of their file (`mine` of `mine.jsonl`), inline ones `custom`.
    """
    config = {name: dict(values) if isinstance(values, dict) else values for name, values in config.items()}
    for section in choice_sections():
        config.setdefault(section, {})["name"] = str(choices.get(section))
    custom = custom | {section for section in choice_sections() if choices.get(section) == "custom"}
    model = config["model"]
    if model.get("id") == MISSING:
        model["id"] = None
    elif "model" in custom and isinstance(model.get("id"), str):
        model["name"] = model["id"].rstrip("/").rpartition("/")[2] or model["id"]
    if "prompts" in custom:
        file = config["prompts"].get("file")
        config["prompts"]["name"] = (isinstance(file, str) and Path(file).stem) or "custom"
    return config


def read_sections(config: Mapping[str, Any]) -> tuple[dict[str, BaseModel], list[Mistake]]:
    """Return the sections of a Point that are right, and the mistakes in the others.

    Args:
        config: a composed config as plain dicts and lists, the names of the choices filled in.
    """
    good: dict[str, BaseModel] = {}
    mistakes: list[Mistake] = []
    for name in sections():
        section, wrong = read_section(name, config.get(name) or {})
        mistakes += wrong
        if section is not None:
            good[name] = section
    return good, mistakes


def read_section(name: str, values: Any) -> tuple[BaseModel | None, list[Mistake]]:
    """Return one section where its values are right, and the mistakes in them."""
    text, unusable = _as_json(name, values)
    if unusable is not None:
        return None, [unusable]
    if wrong_texts := _not_unicode(name, values, text):
        return None, wrong_texts
    section, mistakes = _read_section(name, text)
    return section, list(mistakes)


def _not_unicode(prefix: str, values: Any, text: str) -> list[Mistake]:
    """Return the keys whose texts hold lone surrogates: escapes of YAML, bytes of the environment.

    `text` is the JSON of the values.
    """
    if "\\ud" not in text or not isinstance(values, dict):
        return []
    found = {key: not_unicode(json.dumps(value, ensure_ascii=False)) for key, value in values.items()}
    return [Mistake(f"{prefix}.{key}", f"holds {what}; {AS_UTF8}") for key, what in found.items() if what]


def read_expectations(expect: Any) -> tuple[tuple[Expectation, ...], list[Mistake]]:
    """Return the entries of `expect` that are right, and the mistakes in the others."""
    if expect in (None, []):
        return (), []
    if not isinstance(expect, list) or not all(isinstance(entry, dict) for entry in expect):
        message = "must be a list of mappings, [{prompt: ID, output: TEXT}]"
        return (), [Mistake(f"expect={format_value(expect)}", message)]
    good, mistakes = [], []
    for index, entry in enumerate(expect):
        key = f"expect[{index}]"
        text, unusable = _as_json(key, entry)
        if unusable is not None:
            mistakes.append(unusable)
            continue
        try:
            if wrong_texts := _not_unicode(key, entry, text):
                mistakes += wrong_texts
            else:
                good.append(Expectation.model_validate_json(text))
        except ValidationError as error:
            details = error.errors(include_url=False)
            mistakes += [_expectation_mistake(key, entry, detail) for detail in details]
    return tuple(good), list(dict.fromkeys(mistakes))


def _as_json(key: str, values: Mapping[str, Any]) -> tuple[str, Mistake | None]:
    """Values as JSON; or the mistake that they cannot be: dates, huge numbers, bytes that are no text."""
    for name, value in values.items():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return "", Mistake(f"{key}.{name}", "contains bytes that are not UTF-8; write it as UTF-8 text")
        except (TypeError, ValueError) as error:
            return "", Mistake(f"{key}.{name}", f"contains a value that is not plain YAML: {error}")
    return json.dumps(values), None


def format_value(value: Any) -> str:
    """Return a value as one would type it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def describe(section: str, key: str) -> str:
    """Return what values a key takes: `a number above 0 and at most 1`, `auto or a whole number from 1`."""
    return describe_schema(_schema_of(section, key))


def describe_field(model: type[BaseModel], field: str) -> str:
    """Return what values a field of a model takes, in the same words."""
    return describe_schema(model.model_json_schema()["properties"][field])


def _schema_of(section: str, key: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _schemas_of(section)[key]
    return found


@cache
def _schemas_of(section: str) -> Mapping[str, Any]:
    """Schemas of all keys of a section; pydantic takes milliseconds for them."""
    found: Mapping[str, Any] = sections()[section].model_json_schema()["properties"]
    return found


@lru_cache(maxsize=4096)
def _read_section(name: str, text: str) -> tuple[BaseModel | None, tuple[Mistake, ...]]:
    """One section from JSON, in which a list is accepted for a tuple; everything else stays strict."""
    try:
        return sections()[name].model_validate_json(text), ()
    except ValidationError as error:
        values = json.loads(text)
        by_key: dict[str, list[Any]] = {}  # pydantic may have tried several ways to read one value
        for detail in error.errors(include_url=False):
            if detail["loc"]:
                by_key.setdefault(str(detail["loc"][0]), []).append(detail)
        return None, tuple(_section_mistake(name, key, values, details) for key, details in by_key.items())


def _section_mistake(section: str, key: str, values: Mapping[str, Any], details: Sequence[Any]) -> Mistake:
    dotted = f"{section}.{key}"
    if key not in section_fields(section):
        return Mistake(dotted, "no such key")
    value = values.get(key)
    text = f"{dotted}={format_value(value)}"
    if value is None and section_fields(section)[key].is_required():
        example = "HUB-ID-OR-FOLDER" if dotted == "model.id" else "..."
        return Mistake(dotted, f"must be given: {dotted}={example}")
    if dotted == "decoding.temperature" and value == 0 and not isinstance(value, bool):
        return Mistake(text, "must be above 0; without sampling use decoding=greedy")
    message = _range(details[0]) if len(details[0]["loc"]) == 1 or details[0]["type"] == SIZE else None
    if message is None:
        too_large = any(detail["type"] == "less_than_equal" for detail in details)
        accepted = describe_schema(_schema_of(section, key), most=2**63 if too_large else LARGEST - 1)
        message = f"must be {accepted}"
        if isinstance(value, str) and accepted.startswith("a list, each text"):
            item = json.dumps(value, ensure_ascii=False)
            message += f"; {shlex.quote(f'{dotted}=[{item}]')}"
        message += _cure_of_names(dotted, value, _schema_of(section, key))
        if "text" in accepted.split(" or ") and isinstance(value, (int, float)):
            message += f"""; quote it: "{dotted}='{format_value(value)}'\""""
    return Mistake(text, message + (_cure_of_strategy(key, value) if section == "decoding" else ""))


def _cure_of_names(dotted: str, value: Any, schema: Mapping[str, Any]) -> str:
    """Return what is meant by a list of names of which one is wrong, or by one name without brackets."""
    names = schema.get("items", {}).get("enum") if schema.get("type") == "array" else None
    given = [value] if isinstance(value, str) else value
    if not names or not isinstance(given, list):
        return ""
    meant = [str(one) if one in names else most_similar(str(one), names) for one in given]
    if None in meant or not meant:
        return ""
    cure = shlex.quote(f"{dotted}=[{','.join(map(str, meant))}]")
    return f"; write {cure}" if meant == given else f"; did you mean {cure}?"


def _cure_of_strategy(key: str, value: Any) -> str:
    """What else to write for a value that other tools have for `off`, or in units of their own."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or key == "num_beams":
        return ""
    if key in ("eta_cutoff", "epsilon_cutoff") and 1 <= value < 1e4:
        return f"; of text-generation-webui's 1e-4, use decoding.{key}={value / 1e4:g}"
    return f"; to turn it off use decoding.{key}=null" if value in (0, -1) else ""


def _expectation_mistake(where: str, entry: Mapping[str, Any], detail: Any) -> Mistake:
    key = str(detail["loc"][0])
    known = Expectation.model_fields
    if key not in known:
        return Mistake(f"{where}.{key}", f"no such key{did_you_mean(key, list(known))}")
    accepted = describe_field(Expectation, key)
    return Mistake(f"{where}.{key}={format_value(entry.get(key))}", _range(detail) or f"must be {accepted}")


def _range(detail: Any) -> str | None:
    """The message for a value of the right type that is out of range; None for other errors."""
    bounds = detail.get("ctx", {})
    if detail["type"] == SIZE:
        return str(detail["msg"])
    messages = {
        "greater_than": f"must be above {bounds.get('gt')}",
        "greater_than_equal": f"must be at least {bounds.get('ge')}",
        "less_than": f"must be below {bounds.get('lt')}",
        "less_than_equal": f"must be at most {bounds.get('le')}",
        "finite_number": "must be a finite number",
    }
    message = messages.get(detail["type"])
    return None if message is None else message.replace(".0", "")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def describe_schema(schema: Mapping[str, Any], most: float = LARGEST - 1) -> str:
    """Return a JSON schema in words; upper bounds above `most`, which few will meet, are left out."""
    if "anyOf" in schema:
        options = [describe_schema(one, most) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(options))
    if "const" in schema:
        return format_value(schema["const"])
    if "enum" in schema:
        *others, last = [format_value(value) for value in schema["enum"]]
        return f"{', '.join(others)} or {last}" if others else last
    kind = schema.get("type")
    if kind in ("number", "integer"):
        word = "a number" if kind == "number" else "a whole number"
        names = {
            "exclusiveMinimum": "above",
            "minimum": "from",
            "exclusiveMaximum": "below",
            "maximum": "at most",
        }
        known = [name for name in names if name in schema and abs(schema[name]) <= most]
        bounds = [f"{names[name]} {_number(schema[name])}" for name in known]
        return " ".join([word, " and ".join(bounds)]).strip()
    if kind == "array":
        inner = schema.get("items") or {}
        several = schema.get("prefixItems")
        if several:
            return f"a list [{', '.join(describe_schema(item, most) for item in several)}]"
        return f"a list, each {describe_schema(inner, most)}" if inner else "a list"
    names = {"boolean": "true or false", "string": "text", "object": "a mapping"}
    return names.get(str(kind), "something else")
