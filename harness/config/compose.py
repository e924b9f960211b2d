"""Overrides become composed configs quickly: Hydra composes each choice once, not each job.

Composing takes Hydra about 0.1 s, and a sweep of 1,000 points has few choices and many values. So values are
set on a copy, and a combination of choices is assembled from the sections of configs composed before. That
equals composing in full as long as each choice sets only its own section (no defaults list, no package, no
interpolation); everything else is composed in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.config.experiment_file import experiment_overrides
from harness.config.interpolated import converted
from harness.config.jobs import CUSTOM_KEYS, JobOverrides, key_of
from harness.config.overrides import normalize_plus, parse_override
from harness.config.points import EXPECT, NAME, Composed
from harness.config.schema import sections, value_keys
from harness.config.search_path import EXPERIMENTS
from harness.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

Load = Callable[[list[str]], "DictConfig"]


def custom_sections(
    overrides: Sequence[str], read_experiment: Callable[[str], list[str]] = experiment_overrides
) -> tuple[frozenset[str], list[str]]:
    """Return the sections of a job with a user's own model or prompts, and the overrides that this implies.

    Without a choice beside it, a custom key implies the choice `custom`, so that nothing of the default one
    remains. With a choice, it replaces what that choice has; the other keys stay. An experiment sets custom
    keys as the command line does, which has precedence.

    Args:
        overrides: of the job, names checked.
        read_experiment: an experiment's name -> what it sets, as overrides.

    Raises:
        ConfigError: a choice is made, but the experiment sets a custom key, which would override it.
    """
    typed = _by_key(overrides)
    experiment = str(parse_override(typed[EXPERIMENTS]).value()) if EXPERIMENTS in typed else ""
    inherited = _by_key(read_experiment(experiment)) if experiment else {}
    names, implied = set(), []
    for section, keys in CUSTOM_KEYS.items():
        given = [key for key in keys if not _is_null(typed.get(key))]
        from_experiment = [key for key in keys if key not in typed and not _is_null(inherited.get(key))]
        if not given and from_experiment and _value(typed.get(section)) not in (None, "custom"):
            key = from_experiment[0]
            cure = f"give {key} too, or remove it from the experiment"
            message = f"experiments={experiment} sets {key}, which has precedence; {cure}"
            raise ConfigError.of(typed[section], message)
        used = given or from_experiment
        if not used:
            continue
        names.add(section)
        if section not in typed and (given or section not in inherited):
            implied.append(f"{section}=custom")
        implied += [f"{key}=null" for key in keys if key not in used and key not in typed]
    return frozenset(names), implied


@dataclass(frozen=True)
class BaseConfig:
    """A config as Hydra composed it, before values are set; as in `Composed`."""

    config: dict[str, Any]
    choices: dict[str, Any]
    # It has no interpolation, so that a value set later changes nothing else.
    plain: bool


def base_config(full: DictConfig) -> BaseConfig:
    """Return the sections of a config as plain data, and its choices."""
    from omegaconf import OmegaConf

    config = OmegaConf.masked_copy(full, [*sections(), EXPECT, NAME])
    raw: Any = OmegaConf.to_container(config)
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    choices = {str(key): value for key, value in full.hydra.runtime.choices.items()}
    if raw == resolved:
        return BaseConfig(resolved, choices, plain=True)
    for section in sections():
        before, values = raw.get(section), resolved.get(section)
        if isinstance(before, dict) and isinstance(values, dict):
            values |= {key: converted(section, key, before.get(key), value) for key, value in values.items()}
    return BaseConfig(resolved, choices, plain=False)


class Composer:
    """Composes the many jobs of one command.

    Args:
        load: composes a config, `hydra` node included, from a list of overrides.
        is_self_contained: whether a choice of a group sets only its own section.
    """

    def __init__(self, load: Load, is_self_contained: Callable[[str, str], bool]) -> None:
        self._load = load
        self._read_experiment = lru_cache(maxsize=None)(experiment_overrides)
        self._is_self_contained = lru_cache(maxsize=None)(is_self_contained)
        self._composed: dict[tuple[str, ...], BaseConfig] = {}
        self._reference: tuple[str, ...] = ()

    def compose(self, job: JobOverrides) -> Composed:
        """Compose the config of one job."""
        overrides = [normalize_plus(_parsed(text)) for text in job.overrides]
        custom, implied = custom_sections(overrides, self._read_experiment)
        overrides = [*implied, *overrides]
        values = [text for text in overrides if is_plain_value(_parsed(text))]
        base = self._base(tuple(text for text in overrides if text not in values))
        if not base.plain:
            # Interpolations must see the values, so Hydra composes this one in full.
            base, values = self._compose_in_full(tuple(overrides)), []
        config = {key: dict(value) if key in sections() else value for key, value in base.config.items()}
        for override in map(_parsed, values):
            section, _, key = override.key_or_group.partition(".")
            config[section][key] = override.value()
        return Composed(config, base.choices, custom, job.fixed)

    def own_values(self, section: str, choice: str) -> Mapping[str, Any]:
        """Return every key of a section as a choice sets it by itself."""
        own: Mapping[str, Any] = self._compose_in_full((f"{section}={choice}",)).config[section]
        return own

    def _base(self, overrides: tuple[str, ...]) -> BaseConfig:
        """The config of some choices, assembled from sections where that is sure to be the same."""
        if overrides not in self._composed:
            self._reference = self._reference or overrides
            assembled = self._assembled(self._reference, overrides)
            if assembled is None:
                return self._compose_in_full(overrides)
            self._composed[overrides] = assembled
        return self._composed[overrides]

    def _assembled(self, reference: tuple[str, ...], overrides: tuple[str, ...]) -> BaseConfig | None:
        """The reference's config with sections of other choices; None if it differs in more than these."""
        base = self._compose_in_full(reference)
        changed = [index for index, (a, b) in enumerate(zip(reference, overrides, strict=False)) if a != b]
        if len(reference) != len(overrides) or not all(
            self._are_alternatives(_parsed(reference[index]), _parsed(overrides[index])) for index in changed
        ):
            return None
        config, choices, plain = dict(base.config), dict(base.choices), base.plain
        for index in changed:
            one = self._compose_in_full((*reference[:index], overrides[index], *reference[index + 1 :]))
            group = _parsed(overrides[index]).key_or_group
            config[group], choices[group] = one.config[group], one.choices[group]
            plain &= one.plain
        return BaseConfig(config, choices, plain) if plain else None

    def _are_alternatives(self, one: Override, other: Override) -> bool:
        """Whether they are choices of the same section that set nothing else."""
        group = one.key_or_group
        if group not in sections() or other.key_or_group != group:
            return False
        return all(self._is_self_contained(group, str(choice.value())) for choice in (one, other))

    def _compose_in_full(self, overrides: tuple[str, ...]) -> BaseConfig:
        if overrides not in self._composed:
            self._composed[overrides] = base_config(self._load(list(overrides)))
        return self._composed[overrides]


def is_plain_value(override: Override) -> bool:
    """Return whether it sets one known key to one value that needs no resolving."""
    return (
        not override.is_sweep_override()
        and not override.is_delete()
        and override.package is None
        and override.key_or_group in value_keys()
        and not isinstance(override.value(), dict)
        and "${" not in (override.input_line or "")
    )


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Override:
    return parse_override(text)


def _by_key(overrides: Iterable[str]) -> dict[str, str]:
    return {key_of(text): text for text in overrides}


def _value(text: str | None) -> str | None:
    return None if text is None else text.partition("=")[2].strip()


def _is_null(text: str | None) -> bool:
    return _value(text) in (None, "null", "")
