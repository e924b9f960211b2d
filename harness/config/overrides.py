"""Are the names right? Every group, choice and key of a command and its experiment, before Hydra composes.

Hydra stops at the first mistake and lets misspelt keys pass behind a `+`. Here all are found at once, each
with the nearest right name.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.config.schema import SWEEP_KEYS, parts, value_keys
from harness.config.search_path import EXPERIMENTS, Catalog
from harness.config.suggest import did_you_mean
from harness.config.unsupported_keys import ELSEWHERE
from harness.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


@dataclass
class Checked:
    """What came of checking the overrides of a command.

    Attributes:
        overrides: those without a mistake, a needless `+` taken off.
        mistakes: one a wrong name.
        faulty: the groups and parts that a mistake concerns.
        sweeps: the overrides that give several values.
        experiments: the experiments named.
    """

    overrides: list[str] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)
    sweeps: list[str] = field(default_factory=list)
    experiments: list[str] = field(default_factory=list)


def check_overrides(overrides: Iterable[str], catalog: Catalog, where: str = "") -> Checked:
    """Check the names in `overrides`, and in the experiments they name.

    Args:
        overrides: as typed, `key=value`.
        catalog: the groups and choices there are.
        where: put before each mistake's key; a file, when the overrides come from one.
    """
    from harness.config.experiment_file import check_experiment  # which checks overrides in its turn

    checked = Checked()
    for text in overrides:
        try:
            if "=" not in text and text[:1] != "~":
                raise ConfigError.of(text, f"is no key=value{_bare(text, catalog)}")
            override = parse(text)
            mistake = _mistake(override, catalog)
        except ConfigError as error:
            override, mistake = None, error.mistakes[0]
        if mistake is not None:
            checked.mistakes.append(Mistake(where + mistake.key, mistake.message))
            checked.faulty.add(text.lstrip("+~").partition("=")[0].partition(".")[0])
            continue
        assert override is not None
        if override.is_sweep_override():
            checked.sweeps.append(text.lstrip("+"))
        checked.overrides.append(as_hydra_wants(override))
        if override.key_or_group == EXPERIMENTS:
            checked.experiments.extend(_choices(override))
    for name in checked.experiments:
        mistakes = check_experiment(name, catalog)
        checked.mistakes.extend(mistakes)
        checked.faulty.update({EXPERIMENTS} if mistakes else ())
    return checked


def parse(text: str) -> Override:
    """Parse one override with Hydra's grammar.

    Raises:
        ConfigError: it is no `key=value`.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Quote, QuotedString
    from hydra.errors import HydraException

    key, equals, value = text.partition("=")
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        if not equals:
            raise ConfigError.of(text, "is no key=value") from None
        # Twice: for Hydra, which is to take it as a text, and around that for the shell.
        quoted = shlex.quote(f"{key}={QuotedString(text=value, quote=Quote.double).with_quotes()}")
        cure = f"quote what holds commas, quotes, colons or brackets: {quoted}"
        raise ConfigError.of(text, f"cannot be read; {cure}") from None


def as_hydra_wants(override: Override) -> str:
    """The override with a needless `+` taken off, and one put before a group that the user added."""
    text, key = override.input_line or "", override.key_or_group
    if override.is_hydra_override() or override.is_delete():
        return text
    ours = key.partition(".")[0] in (*parts(), EXPERIMENTS, *SWEEP_KEYS)
    return ("" if ours else "+") + text.lstrip("+")


def _mistake(override: Override, catalog: Catalog) -> Mistake | None:
    """What is wrong with the name or the choice of one override."""
    key, text = override.key_or_group, override.input_line or ""
    if override.is_hydra_override():
        return None
    if override.package is not None:
        return Mistake(text, f"a package (@{override.package}) is not supported; write {key}=CHOICE")
    if override.is_delete():
        cure = "choose another" if key in catalog.groups else "set it to null"
        return Mistake(
            text, f"nothing can be taken out; {cure}: {key}={'CHOICE' if key in catalog.groups else 'null'}"
        )
    if key in catalog.groups:
        return _wrong_choice(override, catalog.groups[key])
    if key == "cases":
        return None if override.is_sweep_override() else _wrong_cases(override, catalog)
    if key in SWEEP_KEYS:
        return None
    if key in parts():
        value = override.value()
        if not isinstance(value, dict):
            return Mistake(text, f"{key} is no group of choices; set its keys, as in {_example(key)}")
        unknown = [name for name in value if f"{key}.{name}" not in value_keys()]
        return wrong_key(f"{key}.{unknown[0]}", text, catalog) if unknown else None
    return None if key in value_keys() else wrong_key(key, text, catalog)


def _wrong_choice(override: Override, known: list[str]) -> Mistake | None:
    """A choice that its group does not have."""
    key, text = override.key_or_group, override.input_line or ""
    from hydra.core.override_parser.types import ValueType

    if override.value_type in (ValueType.GLOB_CHOICE_SWEEP, ValueType.RANGE_SWEEP, ValueType.INTERVAL_SWEEP):
        return None
    asked: list[Any] = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
    wrong = [value for value in asked if _text(value) not in known]
    if key == EXPERIMENTS and (len(asked) > 1 or asked == [None]):
        return Mistake(text, "one experiment at a time; leave it out for none")
    if not wrong:
        return None
    names = [_text(value) for value in wrong]
    one = f"{key}={names[0]}" if len(names) == 1 else text
    hints = "".join(did_you_mean(name, known) for name in names[:3])
    if any(isinstance(value, bool) for value in wrong):
        hints = "; YAML reads a bare off, no or on as a boolean: put it in quotes"
    kind = "no such choice" if len(names) == 1 else f"no such choices as {', '.join(names)}"
    return Mistake(one, f"{kind}{hints} (choices: {', '.join(known)})")


def wrong_key(key: str, text: str, catalog: Catalog) -> Mistake:
    """A key that there is not."""
    if (instead := ELSEWHERE.get(key.rpartition(".")[2])) is not None:
        return Mistake(text, f"no such key; {instead}")
    if any(key.startswith(name) and key[len(name) : len(name) + 1] == "." for name in value_keys()):
        whole = next(name for name in value_keys() if key.startswith(name + "."))
        return Mistake(text, f"{whole} is set as a whole: {whole}=...")
    known = [*parts(), *catalog.groups, *SWEEP_KEYS, *value_keys()]
    return Mistake(text, f"no such key{did_you_mean(key, known)}")


def _bare(word: str, catalog: Catalog) -> str:
    """What a word without `=` may have meant: a choice, or a key."""
    for group, choices in catalog.groups.items():
        if word in choices:
            return f"; did you mean {group}={word}?"
    return did_you_mean(word, [*catalog.groups, *value_keys()])


def _wrong_cases(override: Override, catalog: Catalog) -> Mistake | None:
    """The first mistake in `cases=[[...], ...]` as typed."""
    from harness.config.experiment_file import wrong_cases

    mistakes = wrong_cases(override.value(), "", catalog)
    return mistakes[0] if mistakes else None


def _choices(override: Override) -> list[str]:
    values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    return [str(value) for value in values if value is not None]


def _text(value: Any) -> str:
    from hydra.core.override_parser.types import QuotedString

    value = value.text if isinstance(value, QuotedString) else value
    return str(value)


def _example(part: str) -> str:
    return next(f"{name}=..." for name in value_keys() if name.startswith(f"{part}."))
