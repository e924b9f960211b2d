"""The knobs of a strategy: the fields of `Decoding` that shape a distribution, set by texts as typed.

What is known of a field (type, range, neutral value) is on `Decoding`; mistakes read as on the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from harness.config.decoding import Decoding
from harness.config.decoding_field import FieldKind
from harness.config.effective import NEUTRAL, decoding_fields
from harness.config.groups import ConfigGroups
from harness.config.processor_entries import typed_value
from harness.config.rules import check_rules
from harness.config.structure import STRUCTURES
from harness.config.suggest import did_you_mean
from harness.config.validation import describe, format_value, read_section
from harness.errors import ConfigError, Mistake

_SAMPLING: tuple[FieldKind, ...] = ("temperature", "truncation")
_KINDS: tuple[FieldKind, ...] = (*_SAMPLING, "penalty")


@dataclass(frozen=True)
class Knob:
    """A field that shapes a distribution.

    Attributes:
        name: the field's.
        kind: what it acts on.
        whole: it takes whole numbers.
        low, high: the ends of its range; `high` is None where there is none.
        open_low, open_high: the end itself is out of range.
        neutral: the value that changes nothing; None where no number does.
        accepts: its values in words.
    """

    name: str
    kind: FieldKind
    whole: bool
    low: float
    high: float | None
    open_low: bool
    open_high: bool
    neutral: float | None
    accepts: str


@cache
def knobs() -> tuple[Knob, ...]:
    """Return the knobs in the order in which `Decoding` has them."""
    schemas = Decoding.model_json_schema()["properties"]
    return tuple(
        _knob(name, field.kind, field.neutral, number)
        for name, field in decoding_fields(*_KINDS).items()
        if (number := _number_of(schemas[name])) is not None
    )


def _number_of(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema of the numbers that a field takes; None where it takes none."""
    numbers = [one for one in schema["anyOf"] if one.get("type") in ("number", "integer")]
    return next((one for one in numbers if "enum" not in one), None)


def _knob(name: str, kind: FieldKind, neutral: Any, number: Mapping[str, Any]) -> Knob:
    low = number.get("minimum", number.get("exclusiveMinimum", 0))
    high = number.get("maximum", number.get("exclusiveMaximum"))
    return Knob(
        name=name,
        kind=kind,
        whole=number["type"] == "integer",
        low=low,
        high=high,
        open_low="exclusiveMinimum" in number,
        open_high="exclusiveMaximum" in number,
        neutral=neutral,
        accepts=describe("decoding", name),
    )


def turned(base: Decoding, texts: Mapping[str, str]) -> Decoding:
    """Return a strategy with its knobs set, and what is no knob as `base` has it.

    It samples where a knob has an effect only so, else as `base` does.

    Args:
        base: the strategy of the command.
        texts: values as typed, by name; a knob that is missing or empty is neutral.

    Raises:
        ConfigError: with every mistake in the values.
    """
    names = [knob.name for knob in knobs()]
    unknown = [name for name in texts if name not in names]
    if unknown:
        keys = [f"decoding.{name}" for name in names]
        raise ConfigError(
            Mistake(f"decoding.{name}", f"no such key{did_you_mean(f'decoding.{name}', keys)}")
            for name in unknown
        )
    values = {name: getattr(base, name) for name in Decoding.model_fields if name not in names}
    values |= {name: _parsed(text) for name, text in texts.items() if text.strip()}
    if any(values.get(name) is not None for name in decoding_fields(*_SAMPLING)):
        values["do_sample"] = True
    decoding, mistakes = read_section("decoding", values)
    if decoding is not None:
        mistakes += check_rules({"decoding": decoding})
    if mistakes:
        raise ConfigError(mistakes)
    return cast(Decoding, decoding)


def sampled(decoding: Decoding) -> Decoding:
    """Return the strategy with sampling."""
    return decoding.model_copy(update={"do_sample": True})


def greedy(decoding: Decoding) -> Decoding:
    """Return the strategy without sampling, and so without what needs it: its penalties stay."""
    return decoding.model_copy(
        update={"do_sample": False, **dict.fromkeys(decoding_fields(*_SAMPLING, "order"))}
    )


def knob_texts(decoding: Decoding) -> dict[str, str]:
    """Return the values of the knobs that are set, as one would type them."""
    values = {knob.name: getattr(decoding, knob.name) for knob in knobs()}
    return {name: format_value(value) for name, value in values.items() if value is not None}


def choices_of(groups: ConfigGroups) -> dict[str, dict[str, Any]]:
    """Return what the choices of `decoding` set, by name, of those that are a strategy and nothing else.

    Another tool's defaults are left out: few would recognise a strategy by such a name.
    """
    from omegaconf import OmegaConf

    found = {}
    for name in (name for name in groups.choices["decoding"] if not name.endswith("_default")):
        config = groups.repository.load_config(f"decoding/{name}")
        if config is not None and groups.is_self_contained("decoding", name):
            values = OmegaConf.to_container(config.config)
            found[name] = (
                {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}
            )
    return found


def overrides_of(decoding: Decoding, choices: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the fewest overrides that give a strategy: a choice, and the keys in which it differs.

    Args:
        decoding: the strategy; among equals its own choice comes first.
        choices: what each choice sets, by name.
    """
    wanted = {name: _plain(getattr(decoding, name), neutral) for name, neutral in NEUTRAL.items()}
    names = sorted(choices, key=lambda name: (name != decoding.name, name))
    differing = {name: _differing(choices[name], wanted) for name in names}

    def cost(name: str) -> tuple[int, bool, int, int]:
        """How much is to be overridden; a name that says greedy, or a field not set, is no good name."""
        shared = sum(getattr(decoding, key, None) is not None for key in choices[name])
        processors = bool(choices[name].get("processors")) and "processors" in differing[name]
        misnamed = processors or "do_sample" in differing[name]
        return len(differing[name]), misnamed, len(choices[name]) - shared, -shared

    best = min(names, key=cost)
    return [f"decoding={best}", *(f"decoding.{key}={_typed(key, wanted[key])}" for key in differing[best])]


def _differing(choice: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [key for key, neutral in NEUTRAL.items() if _plain(choice.get(key), neutral) != wanted[key]]


def _plain(value: Any, neutral: Any) -> Any:
    """Return a value in a form that compares: null is neutral, a tuple a list."""
    if value is None:
        return neutral
    return [_plain(item, None) for item in value] if isinstance(value, (tuple, list)) else value


def _typed(key: str, value: Any) -> str:
    if value is None:
        return "null"
    if key not in STRUCTURES:
        return typed_value(value) if isinstance(value, (list, dict)) else format_value(value)
    if isinstance(value, list):
        return f"[{','.join(_typed(key, item) for item in value)}]"
    from hydra.core.override_parser.types import Quote, QuotedString

    text = format_value(value).replace("${", "\\${")
    return QuotedString(text=text, quote=Quote.double).with_quotes()


def _parsed(text: str) -> Any:
    """Return a typed value: a number where it is one, else the text, which no field takes."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"null": None, "true": True, "false": False}.get(text.strip().lower(), text)
