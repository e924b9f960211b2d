"""The names in overrides: every group, choice and key of a command is checked before Hydra composes.

Hydra stops at the first mistake and accepts misspelt keys behind a `+`. Here all mistakes are found at once,
each with the most similar known name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.config.choice_advice import choice_advice, prompt_override
from harness.config.groups import ConfigGroups
from harness.config.launcher import chosen_launcher, launcher_mistake, shards_mistake
from harness.config.plugins import broken_conf
from harness.config.quoted_value import quoted_value
from harness.config.schema import SWEEP_KEYS, sections, value_keys
from harness.config.search_path import EXPERIMENTS
from harness.config.suggest import did_you_mean
from harness.config.sweep_size import values_mistake
from harness.config.sweep_values import wrong_values
from harness.config.unsupported_keys import UNSUPPORTED_KEYS
from harness.config.validation import describe
from harness.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

PARAMS = "hydra.sweeper.params"
HYDRA_KEYS = ("hydra.mode", PARAMS, "hydra.searchpath", "hydra.verbose", "hydra.job.env_set")
"""The keys of Hydra's own that a command may set: it only composes here, the others have no effect."""

_TEXTS = ("name", "compare.baseline")
"""The keys of one text that may hold any character: a label may be `top_p top_p=0.9`."""


@dataclass
class CheckedOverrides:
    """The correct overrides, a needless `+` removed; and the mistakes in the others, one per wrong name."""

    overrides: list[str] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    # The groups and sections that have a mistake.
    faulty: set[str] = field(default_factory=set)
    # The overrides that give several values.
    sweeps: list[str] = field(default_factory=list)
    experiments: list[str] = field(default_factory=list)
    # Those that set what a later one sets again.
    repeated: list[Mistake] = field(default_factory=list)


def check_overrides(overrides: Iterable[str], groups: ConfigGroups, prefix: str = "") -> CheckedOverrides:
    """Check the names in `overrides`; `prefix` (the file they are from) begins the key of each mistake."""
    checked = CheckedOverrides()
    given: dict[str, Override] = {}
    overrides = list(overrides)
    launcher = chosen_launcher(overrides)
    for text in overrides:
        try:
            if "=" not in text and text[:1] != "~":
                raise ConfigError.of(text, f"expected key=value{_did_you_mean_value(text, groups)}")
            override = _parsed(_as_text(text), groups)
            mistake = _mistake(override, groups, launcher)
        except ConfigError as error:
            override, mistake = None, error.mistakes[0]
        if mistake is not None:
            checked.mistakes.append(Mistake(prefix + mistake.key, mistake.message))
            checked.faulty.add(text.lstrip("+~").partition("=")[0].partition(".")[0])
            continue
        assert override is not None
        for earlier in _set_again(override, given):
            before = earlier.input_line or ""
            message = f"no effect, {text} comes after it and sets the same; {_cure_of_two(earlier, override)}"
            checked.repeated.append(Mistake(prefix + before, message))
            if not isinstance(earlier.value(), dict):
                checked.overrides.remove(normalize_plus(earlier))
                checked.sweeps = [one for one in checked.sweeps if one != before.lstrip("+")]
        if override.is_sweep_override():
            checked.sweeps.append(text.lstrip("+"))
        checked.overrides.append(normalize_plus(override))
        if override.key_or_group == EXPERIMENTS:
            checked.experiments = [str(value) for value in _values(override)]
    return checked


def _cure_of_two(earlier: Override, later: Override) -> str:
    """What to write in place of two overrides that set the same."""
    key, values = later.key_or_group, [*_values(earlier), *_values(later)]
    lists = any(isinstance(value, (dict, list)) for value in values)
    if lists or key in (EXPERIMENTS, *SWEEP_KEYS) or later.is_hydra_override():
        return "remove one of them"
    texts = [(one.input_line or "").partition("=")[2] for one in (earlier, later)]
    if any("(" in text for text in texts):
        return "remove one of them"
    if texts[0] == texts[1]:
        return "remove one of them"
    both = ",".join(dict.fromkeys(text for one in texts for text in one.split(",")))
    return f"for both: -m {shlex.quote(f'{key}={both}')}; else remove one of them"


def check_cases(cases: Any, groups: ConfigGroups, prefix: str = "") -> list[Mistake]:
    """Return the wrong names in `cases`, which must be a list of lists of overrides."""
    mistakes: list[Mistake] = []
    for case in cases if isinstance(cases, list) else [cases] if cases else []:
        key = f"{prefix}cases: {case}"
        if not isinstance(case, list) or not case or not all(isinstance(text, str) for text in case):
            message = "must be a list of overrides, as in [decoding=greedy, generation.seed=1]"
            mistakes.append(Mistake(key, message))
            continue
        checked = check_overrides(case, groups, f"{prefix}cases: ")
        mistakes += [*checked.mistakes, *checked.repeated]
        if checked.sweeps:
            mistakes.append(Mistake(key, "a case is one point; write one case per value"))
        mistakes += of_one_point(checked, f"{prefix}cases: ")
        if checked.experiments:
            mistakes.append(Mistake(key, "a case cannot name an experiment"))
    return mistakes


def of_one_point(checked: CheckedOverrides, prefix: str) -> list[Mistake]:
    """Return the mistakes of right overrides that are no point's own: they set the sweep as a whole."""
    whole = ("hydra.", "hydra/", *(f"{name}=" for name in SWEEP_KEYS))
    message = "is about the whole sweep, not one point; set it beside the points"
    return [
        Mistake(prefix + text, message) for text in checked.overrides if text.lstrip("+").startswith(whole)
    ]


def parse_override(text: str) -> Override:
    """Parse one override with Hydra's grammar.

    Raises:
        ConfigError: it is not `key=value`, or its value needs quotes.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = text.partition("=")
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        if not equals:
            raise ConfigError.of(text, "expected key=value") from None
        # Quoted twice: for Hydra, which must take it as one string, and around that for the shell.
        quoted = shlex.quote(f"{key}={quoted_value(key.lstrip('+'), value)}")
        cure = f"quote a value containing commas, quotes, colons or brackets: {quoted}"
        raise ConfigError.of(text, f"cannot be parsed; {cure}") from None


def _parsed(text: str, groups: ConfigGroups) -> Override:
    """Parse an override; a prompt, or a key, that was given as a choice is advised of."""
    try:
        return parse_override(text)
    except ConfigError:
        key, _, value = text.partition("=")
        key, (name, _, rest) = key.lstrip("+"), value.partition("=")
        if f"{key}.{name}" in value_keys():
            choice = f"{key}={name} " if name in groups.choices.get(key, ()) else ""
            advice = f"no such choice; write {choice}{shlex.quote(f'{key}.{name}={rest}')}"
        elif key == "prompts" and value:
            advice = f"no such choice; a prompt is {prompt_override(value)}"
        else:
            raise
        raise ConfigError.of(text, advice) from None


def _as_text(text: str) -> str:
    """Return a name or a label as Hydra takes it for a text, whatever is in it; another override as it is."""
    key, _, value = text.partition("=")
    if key.lstrip("+") not in _TEXTS or value in ("", "null"):
        return text
    try:
        override = parse_override(text)
        if not override.is_sweep_override() and not isinstance(override.value(), (dict, list)):
            return text
    except ConfigError:
        pass
    from hydra.core.override_parser.types import Quote, QuotedString

    return f"{key}={QuotedString(text=value, quote=Quote.double).with_quotes()}"


def normalize_plus(override: Override) -> str:
    """Return the override without a needless `+`, and with the one that a group of the user's needs."""
    text, key = override.input_line or "", override.key_or_group
    if override.is_hydra_override():
        # What has no default, as the params of a sweep, is added; the rest is replaced.
        return (
            "++" + text.lstrip("+")
            if key.startswith(("hydra.job.env_set.", "hydra.sweeper.params.", "hydra.launcher."))
            else text
        )
    if override.is_delete():
        return text
    in_schema = key.partition(".")[0] in (*sections(), EXPERIMENTS, *SWEEP_KEYS)
    return ("" if in_schema else "+") + text.lstrip("+")


def unknown_key(key: str, text: str, groups: ConfigGroups) -> Mistake:
    """Return the mistake for a dotted key that does not exist, with advice; `text` is what was typed."""
    if key == "prompt":
        return Mistake(text, f"no such key; a prompt is {prompt_override(text.partition('=')[2])}")
    if key.endswith("api_key"):
        text = key  # what was typed is the key itself
    if (advice := UNSUPPORTED_KEYS.get(key.rpartition(".")[2])) is not None:
        return Mistake(text, f"no such key; {_with_value(advice, text.partition('=')[2])}")
    parent = next((name for name in value_keys() if key.startswith(f"{name}.")), None)
    if parent is not None:
        return Mistake(text, f"{parent} can only be set as a whole: {parent}=...")
    section, _, name = key.partition(".")
    if key in value_keys():
        return Mistake(text, f"a key of a file is not dotted; write `{section}:`, and below it `{name}: ...`")
    known = [*sections(), *groups.choices, *SWEEP_KEYS, *value_keys()]
    return Mistake(text, f"no such key{did_you_mean(key, known)}")


def _with_value(advice: str, value: str) -> str:
    """Return advice to use another key with the number that was given, where that key takes one."""
    found = re.match(r"use (\w+)\.(\w+)(?=$|[:;])", advice)
    if not found or not value:
        return advice
    takes_numbers = describe(*found.groups()).startswith(("a number", "a whole number"))
    number = re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", value)
    return f"{found[0]}={value}{advice[found.end() :]}" if takes_numbers and number else advice


def hydra_mistake(key: str, text: str) -> Mistake | None:
    """Return the mistake of setting one of Hydra's own keys; None for those that have an effect."""
    if f"{key}.".startswith(tuple(f"{known}." for known in HYDRA_KEYS)):
        return None
    if key.startswith(("hydra.run", "hydra.sweep.", "hydra.output_subdir")):
        cure = "leave this out; HARNESS_OUTPUTS=FOLDER names the folder of the results"
        return Mistake(text, f"no effect, the harness names its folders itself; {cure}")
    return Mistake(text, "the harness runs a sweep itself, as a whole; leave this out")


def _mistake(override: Override, groups: ConfigGroups, launcher: str | None) -> Mistake | None:
    """What is wrong with the key or the choice of one override, in a command with this launcher."""
    key, text = override.key_or_group, override.input_line or ""
    if override.is_hydra_override():
        if key.startswith(("hydra/launcher", "hydra.launcher")):
            return launcher_mistake(override, launcher)
        return hydra_mistake(key, text) or (_wrong_params(override, groups) if key == PARAMS else None)
    if override.package is not None:
        return Mistake(text, f"a package (@{override.package}) is not supported; write {key}=CHOICE")
    if override.is_delete():
        is_group = key in groups.choices
        cure = f"choose another: {key}=CHOICE" if is_group else f"set it to null: {key}=null"
        return Mistake(text, f"cannot be deleted; {cure}")
    if key == "engine.shards" and (mistake := shards_mistake(override, launcher)):
        return mistake
    if key in SWEEP_KEYS and override.is_sweep_override():
        return Mistake(text, f"is about the whole sweep; write one list: {key}=[...]")
    if override.is_sweep_override() and key != EXPERIMENTS:
        mistake = values_mistake(override, groups.choices) or wrong_values(override)
        if mistake is not None:
            return mistake
    if key in groups.choices:
        return _wrong_choice(override, groups.choices[key])
    if key == "cases":
        mistakes = check_cases(override.value(), groups)
        return mistakes[0] if mistakes else None
    if key in SWEEP_KEYS:
        return None
    if key in sections():
        value = override.value()
        if not isinstance(value, dict):
            return Mistake(text, f"{key} has no choices; set its keys, as in {_first_key(key)}=...")
        unknown = [name for name in value if f"{key}.{name}" not in value_keys()]
        return unknown_key(f"{key}.{unknown[0]}", text, groups) if unknown else None
    return None if key in value_keys() else unknown_key(key, text, groups)


def _wrong_params(override: Override, groups: ConfigGroups) -> Mistake | None:
    """The first mistake in the product of a sweep that a command gives as a mapping."""
    value, text = override.value(), override.input_line or ""
    if not isinstance(value, dict):
        return Mistake(text, f"must be a mapping, as in '{PARAMS}={{decoding: \"greedy,top_p\"}}'")
    checked = check_overrides((f"{key}={one}" for key, one in value.items()), groups)
    wrong = [*checked.mistakes, *of_one_point(checked, "")]
    return Mistake(text, str(wrong[0])) if wrong else None


def _set_again(override: Override, given: dict[str, Override]) -> list[Override]:
    """The earlier ones, in `given` by key, that set what this one sets too; it takes their place there."""
    key, value = override.key_or_group, override.value()
    of_section = value if isinstance(value, dict) and key in sections() else None
    keys = [key] if of_section is None else [f"{key}.{name}" for name in of_section]
    earlier = {id(given[one]): given[one] for one in keys if one in given}
    given.update(dict.fromkeys(keys, override))
    return list(earlier.values())


def _wrong_choice(override: Override, known: list[str]) -> Mistake | None:
    """What is wrong with the choices of a group that an override names."""
    from hydra.core.override_parser.types import ValueType

    key, text = override.key_or_group, override.input_line or ""
    if key == EXPERIMENTS and (override.is_sweep_override() or override.value() is None):
        return Mistake(text, "one experiment at a time; leave it out for none")
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        return None
    values = _values(override)
    wrong = [value for value in values if _unquoted(value) not in known]
    if not wrong:
        return None
    names = [_unquoted(value) for value in wrong]
    if key == "prompts" and any(" " in name for name in names):  # one prompt, perhaps with commas
        names = [_unquoted(values[0]) if len(values) == 1 else text.partition("=")[2]]
    one = f"{key}={names[0]}" if len(names) == 1 else text
    hints = "".join(choice_advice(key, name, known) for name in names[:3])
    if any(isinstance(value, bool) for value in wrong):
        hints += "; in a file quote it, YAML reads an unquoted off, no or on as a boolean"
    hints += broken_conf()
    problem = "no such choice" if len(names) == 1 else f"no such choices as {', '.join(names[:9])}"
    return Mistake(one, f"{problem}{hints} (choices: {', '.join(known)})")


def _did_you_mean_value(word: str, groups: ConfigGroups) -> str:
    """A suggestion for a word without `=`: the group it is a choice of, or a similar key."""
    for group, choices in groups.choices.items():
        if word in choices:
            return f"; did you mean {group}={word}?"
    return did_you_mean(word, [*groups.choices, *value_keys()])


def _values(override: Override) -> list[Any]:
    return list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]


def _unquoted(value: Any) -> str:
    from hydra.core.override_parser.types import QuotedString

    return str(value.text if isinstance(value, QuotedString) else value)


def _first_key(section: str) -> str:
    return next(name for name in value_keys() if name.startswith(f"{section}."))
