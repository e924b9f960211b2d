"""What an output must be: a JSON schema, a regular expression, one of some texts, or a Lark grammar.

llguidance (Moskal et al. 2025) reads all four; it is imported late, and is an extra of this project.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Literal, get_args

from harness.config.text_file import read_text
from harness.errors import ConfigError

StructureName = Literal["json_schema", "regex", "choices", "grammar"]
STRUCTURES: tuple[StructureName, ...] = get_args(StructureName)
"""The fields of `Decoding` that say what an output must be; one of them at most."""
INSTALL = "pip install 'decoding-harness[grammar]'"

_FILE_OF: Mapping[str, str] = {"json_schema": ".json", "grammar": ".lark"}
_WHAT: Mapping[str, str] = {
    "json_schema": "not a JSON schema that can be decoded",
    "regex": "not a regular expression that can be decoded",
    "choices": "not a list of texts that can be decoded",
    "grammar": "not a Lark grammar",
}
_LONGEST_ERROR = 200


@dataclass(frozen=True)
class Structure:
    """What an output must be.

    Attributes:
        name: the field that says it.
        text: the schema as JSON, its keys in their order, the expression, the choices as a JSON list, or the
            grammar.
    """

    name: StructureName
    text: str

    def grammar(self) -> str:
        """Return it as llguidance reads it.

        JSON has no whitespace between its parts, unless the schema has an `x-guidance` of its own: small
        models go on with line ends forever where they may.
        """
        from llguidance import LLMatcher

        if self.name == "json_schema":
            return LLMatcher.grammar_from_json_schema(self.text, defaults={"whitespace_flexible": False})
        if self.name == "regex":
            return LLMatcher.grammar_from_regex(self.text)
        if self.name == "choices":
            return LLMatcher.grammar_from_lark(f"start: {' | '.join(map(json.dumps, json.loads(self.text)))}")
        return LLMatcher.grammar_from_lark(self.text)


def structure_of(effective: Mapping[str, Any]) -> Structure | None:
    """Return what the outputs of a strategy must be, from its effective fields; None where nothing is."""
    for name in STRUCTURES:
        value = effective.get(name)
        if value is not None:
            return Structure(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return None


def structure_value(name: str, value: Any) -> Any:
    """Return the value of one of the fields as it is in effect: the content of a file in place of its name.

    A schema becomes JSON text: the order of its properties counts, which mappings of YAML may lose.

    Raises:
        ConfigError: a file cannot be read, or is no JSON.
    """
    if name not in _FILE_OF:
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    key = f"decoding.{name}={shortened(text)}"
    if text.strip().endswith(_FILE_OF[name]) and "\n" not in text.strip():
        text = read_text(text.strip(), f"decoding.{name}")
    return text if name == "grammar" else _schema(key, text)


def _schema(key: str, text: str) -> str:
    """Return a schema of JSON or YAML as JSON."""
    import yaml

    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = _line(str(error))
        try:
            schema = yaml.safe_load(text)
        except (ValueError, RecursionError, yaml.YAMLError):
            schema = None
        if not isinstance(schema, dict):
            cure = "give a mapping, JSON text, or the name of a .json file"
            raise ConfigError.of(key, f"is no JSON: {problem}; {cure}") from None
    try:
        return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:  # a date of YAML, a key that is a list
        raise ConfigError.of(key, f"is no JSON: {_line(str(error))}; quote such values") from None


def problem_of(structure: Structure) -> str | None:
    """Return what is wrong with a structure, and how to correct it; None where it can be decoded."""
    if find_spec("llguidance") is None:
        return f"llguidance is not installed: {INSTALL}"
    return _problem(structure)


def shortened(value: Any) -> str:
    """Return a value as messages show it, on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


@lru_cache(maxsize=256)
def _problem(structure: Structure) -> str | None:
    from llguidance import LLMatcher

    try:
        grammar = structure.grammar()
        wrong, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    except ValueError as error:
        wrong, messages = True, [str(error)]
    if wrong:
        return f"{_WHAT[structure.name]}: {_line(messages[0])}; correct it"
    matcher = byte_matcher(structure)
    if not matcher.is_accepting() and not any(matcher.compute_logit_bias()[:256]):
        return "no text is like this; correct it"
    return None


def byte_matcher(structure: Structure) -> Any:
    """Return a fresh matcher of bytes, whatever the tokens of a model are."""
    from llguidance import LLMatcher

    return LLMatcher(_bytes(), structure.grammar(), log_level=0)


@lru_cache(maxsize=1)
def _bytes() -> Any:
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


def _line(text: str) -> str:
    """Return the line of an error's text that says what is wrong."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()] or ["it has no meaning"]
    reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (reasons or lines)[0][:_LONGEST_ERROR]
