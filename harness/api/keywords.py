"""Keyword arguments as the overrides of a command: `decoding=["greedy", "top_p"]` is `decoding=greedy,top_p`.

Strings arrive as they are: what Hydra's grammar or OmegaConf would take for something else is quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, get_args, get_origin

from harness.config.schema import LISTS, choice_sections, section_fields, sections, value_keys
from harness.errors import ConfigError, Mistake

Overrides = str | Iterable[str] | Mapping[str, Any]
"""Overrides as on the command line, or keys with values."""

Refer = Callable[[str, Callable[..., Any]], str]
"""Returns the reference FILE.py:NAME to a function that a key was given."""

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_NO_TEXT = ("true", "false", "null", "on", "off", "yes", "no", "inf", "nan")
_BEFORE_INTERPOLATION = re.compile(r"(\\*)\$\{")
_KEY = re.compile(r"[A-Za-z_][\w.@/-]*", re.ASCII)
_IN_DICT_KEY = re.compile(r"[\w/\\+.$%*@?|()\[\]{}:=, \t-]+", re.ASCII)


def overrides_of(given: Overrides, keys: Mapping[str, Any], refer: Refer) -> list[str]:
    """Return the overrides that a call's arguments stand for.

    A list is several values of its key, which a sweep combines; of a key that takes a list, it is that list,
    and a list of lists is several of them. A mapping of a section's keys is as good as dotted keys; its key
    `name` makes the choice.

    Args:
        given: overrides as on the command line, or a mapping like `keys`.
        keys: values by key.
        refer: makes references of functions.

    Raises:
        ConfigError: with every key or value that cannot be an override.
    """
    mistakes: list[Mistake] = []
    overrides: list[str] = []
    if isinstance(given, str):
        overrides.append(given)
    elif not isinstance(given, Mapping):
        for one in given:
            if isinstance(one, str):
                overrides.append(one)
            else:
                message = f"is {_kind(one)}, not an override; write 'key=value', or give keys as keywords"
                mistakes.append(Mistake(f"{one!r:.40}", message))
    for key, value in (*(given.items() if isinstance(given, Mapping) else ()), *keys.items()):
        for dotted, one in _dotted(str(key), value):
            try:
                overrides.append(_override(dotted, one, refer))
            except ConfigError as error:
                mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    return overrides


def _dotted(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys that a mapping of a section's keys stands for."""
    if key in sections() and isinstance(value, Mapping):
        for name, one in value.items():
            chooses = name == "name" and key in choice_sections()
            yield (key if chooses else f"{key}.{name}"), one
    else:
        yield key, value


def _override(key: str, value: Any, refer: Refer) -> str:
    if not _KEY.fullmatch(key):
        raise ConfigError.of(f"{key!r:.60}", "no such key; a key has letters, digits, dots and underscores")
    if key == "cases" and _is_list(value):
        return f"cases=[{','.join(_case(case, refer) for case in value)}]"
    value = _plain(value)
    _check_choice(key, value)
    if not _is_list(value) or _depth_of(value) <= _list_depth(key):
        return f"{key}={_text(key, value, refer)}"
    values = list(value)
    if not values:
        raise ConfigError.of(key, "an empty list has no values; leave the key out")
    return f"{key}={','.join(_text(key, one, refer) for one in values)}"


def _check_choice(key: str, value: Any) -> None:
    """Refuse what can be no choice, with the cure of a call in place of a command's.

    Raises:
        ConfigError: choices with commas between them, or prompts in place of the name of a set.
    """
    texts = [one for one in (value if _is_list(value) else [value]) if isinstance(one, str)]
    if key == "prompts" and any(" " in one for one in texts):
        raise ConfigError.of(
            f"prompts={value!r:.60}", f"no such choice; write prompts={{'items': {texts!r:.200}}}"
        )
    if key in choice_sections() and isinstance(value, str) and "," in value:
        several = [one.strip() for one in value.split(",")]
        raise ConfigError.of(f"{key}={value!r}", f"one choice; for several give a list: {key}={several}")


def _case(case: Any, refer: Refer) -> str:
    """One of `cases`: a mapping, or a list of overrides."""
    overrides = overrides_of(case, {}, refer) if isinstance(case, (Mapping, str)) else list(case)
    return f"[{','.join(quoted(str(one)) for one in overrides)}]"


def _text(key: str, value: Any, refer: Refer) -> str:
    """Return a value in Hydra's grammar.

    Raises:
        ConfigError: a config cannot hold it.
    """
    value = _plain(value)
    if isinstance(value, str):
        return _string(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        pairs = (f"{_dict_key(key, name)}:{_text(key, one, refer)}" for name, one in value.items())
        return f"{{{','.join(pairs)}}}"
    if _is_list(value):
        return f"[{','.join(_text(key, one, refer) for one in value)}]"
    if callable(value):
        return _string(refer(key, value))
    raise ConfigError.of(key, f"is {_kind(value)}, which a config cannot hold; give numbers, texts and lists")


def _string(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _NO_TEXT:
        return text
    return quoted(_BEFORE_INTERPOLATION.sub(lambda found: f"{2 * found[1]}\\${{", text))


def quoted(text: str) -> str:
    """Return a text in quotes, as Hydra's grammar takes it."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text=text, quote=Quote.double).with_quotes()


def _dict_key(key: str, name: Any) -> str:
    """Return a key of a mapping, which the grammar takes without quotes only.

    Raises:
        ConfigError: it has a character that the grammar takes in quotes only.
    """
    text = str(name)
    if not text or not _IN_DICT_KEY.fullmatch(text):
        message = f"{text!r:.60} cannot be a key of a mapping in a call; write it into an experiment's file"
        raise ConfigError.of(key, message)
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", text)


def _plain(value: Any) -> Any:
    """Return a value without the types of NumPy, pandas and pathlib."""
    if isinstance(value, PurePath):
        return str(value)
    convert = getattr(value, "tolist", None)  # of arrays, of their numbers, of columns
    return convert() if hasattr(value, "dtype") and callable(convert) else value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _depth_of(value: Any) -> int:
    """Return how many lists are nested in a value."""
    return 1 + max((_depth_of(_plain(one)) for one in value), default=0) if _is_list(value) else 0


def _list_depth(key: str) -> int:
    """Return how many lists are nested in what a key takes at most."""
    if key in LISTS:
        return 1
    if key not in value_keys():
        return 0
    section, _, name = key.partition(".")
    return _depth(section_fields(section)[name].annotation)


def _depth(annotation: Any) -> int:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _depth(arguments[0])
    inner = max((_depth(one) for one in arguments if one is not ...), default=0)
    if origin in (tuple, list):
        return 1 + inner
    return 0 if isinstance(origin, type) and issubclass(origin, Mapping) else inner


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
