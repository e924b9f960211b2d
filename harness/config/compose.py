"""Overrides become composed configs, fast: Hydra composes each choice once, not each job.

Composing costs Hydra about 0.1 s. A sweep of 1,000 points has few choices and many values: values are set on
a copy, as Hydra would set them, and a combination of choices is put together from the parts of those composed
before. That is the same as composing it whole as long as each choice touches its own part only (no defaults
list, no package of its own, no interpolation); all else is composed whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.config.custom_sources import outranked, sources_of
from harness.config.experiment_file import said_in
from harness.config.overrides import as_hydra_wants, parse
from harness.config.points import EXPECT, Composed
from harness.config.schema import parts, value_keys
from harness.config.search_path import EXPERIMENTS, Catalog
from harness.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

CONFIG_NAME = "config"
Load = Callable[[list[str]], "DictConfig"]
Parts = dict[str, Any]


@dataclass(frozen=True)
class Base:
    """A config as Hydra composed it, before values are set.

    Attributes:
        config: part -> key -> value, and the list `expect`.
        choices: group -> choice.
        plain: whether nothing in it was an interpolation, so that a value set later changes nothing else.
    """

    config: Parts
    choices: dict[str, Any]
    plain: bool


class Composer:
    """Composes the many jobs of one command.

    Args:
        load: composes a config, `hydra` node included, from a list of overrides.
        stands_alone: whether a choice of a group touches its own part only.
    """

    def __init__(self, load: Load, stands_alone: Callable[[str, str], bool]) -> None:
        self._load = load
        self._said = lru_cache(maxsize=None)(said_in)
        self._stands_alone = lru_cache(maxsize=None)(stands_alone)
        self._composed: dict[tuple[str, ...], Base] = {}
        self._reference: tuple[str, ...] | None = None

    def compose(self, overrides: Sequence[str]) -> Composed:
        """The config of one job."""
        overrides = [as_hydra_wants(_parsed(text)) for text in overrides]
        sources = sources_of(overrides, self._said)
        overrides = [*sources.implied, *overrides]
        values = [text for text in overrides if is_plain_value(_parsed(text))]
        rest = tuple(text for text in overrides if text not in values)
        base = self._base(rest)
        if not base.plain:
            # Interpolations must see the values, so Hydra composes this one whole.
            base, applied = self._read(tuple(overrides)), []
        else:
            applied = [_parsed(text) for text in values]
        config = {key: dict(value) if key in parts() else value for key, value in base.config.items()}
        for override in applied:
            part, _, key = override.key_or_group.partition(".")
            config[part][key] = override.value()
        return Composed(config, base.choices, sources.own)

    def _base(self, overrides: tuple[str, ...]) -> Base:
        """The config of some choices, put together from parts where that is sure to be the same."""
        if overrides in self._composed:
            return self._composed[overrides]
        if self._reference is None:
            self._reference = overrides
        reference = self._read(self._reference)
        flips = self._flips(self._reference, overrides) if reference.plain else None
        if flips is None:
            return self._read(overrides)
        config, choices, plain = dict(reference.config), dict(reference.choices), True
        for place, text in flips.items():
            flipped = self._read((*self._reference[:place], text, *self._reference[place + 1 :]))
            group = _parsed(text).key_or_group
            config[group], choices[group] = flipped.config[group], flipped.choices[group]
            plain &= flipped.plain
        found = Base(config, choices, plain)
        self._composed[overrides] = found
        return found

    def _flips(self, reference: tuple[str, ...], overrides: tuple[str, ...]) -> dict[int, str] | None:
        """Where two lists differ in choices that each touch their own part only; None when otherwise."""
        if len(reference) != len(overrides):
            return None
        flips = {}
        for place, (before, after) in enumerate(zip(reference, overrides, strict=True)):
            if before == after:
                continue
            old, new = _parsed(before), _parsed(after)
            group = new.key_or_group
            if old.key_or_group != group or group not in parts():
                return None
            if not all(self._stands_alone(group, str(one.value())) for one in (old, new)):
                return None
            flips[place] = after
        return flips

    def _read(self, overrides: tuple[str, ...]) -> Base:
        """Let Hydra compose."""
        from omegaconf import OmegaConf

        if overrides not in self._composed:
            whole = self._load(list(overrides))
            choices = {str(key): value for key, value in whole.hydra.runtime.choices.items()}
            config = OmegaConf.masked_copy(whole, [*parts(), EXPECT])
            raw = OmegaConf.to_container(config, resolve=False)
            resolved = OmegaConf.to_container(config, resolve=True)
            assert isinstance(resolved, dict)
            self._composed[overrides] = Base(
                {str(k): v for k, v in resolved.items()}, choices, raw == resolved
            )
        return self._composed[overrides]


def composer_of(loader: Any, load: Load) -> Composer:
    """A Composer on Hydra's config loader."""

    def stands_alone(group: str, choice: str) -> bool:
        found = loader.repository.load_config(f"{group}/{choice}")
        return found is not None and not found.defaults_list and found.header.get("package") is None

    return Composer(load, stands_alone)


def is_plain_value(override: Override) -> bool:
    """Whether it sets one known key to one value that needs no resolving."""
    return (
        not override.is_sweep_override()
        and not override.is_delete()
        and override.package is None
        and override.key_or_group in value_keys()
        and not isinstance(override.value(), dict)
        and "${" not in (override.input_line or "")
    )


def united(base: Sequence[str], extra: Sequence[str]) -> list[str]:
    """`extra` on top of `base`: the last one of a key or group counts, a choice also before its sources."""
    found: dict[str, str] = {}
    for text in [*outranked(base, extra), *extra]:
        key = text.lstrip("+").partition("=")[0]
        found.pop(key, None)
        found[key] = text
    return list(found.values())


def jobs_with_cases(
    jobs: Sequence[Sequence[str]], cases: Any, typed: Sequence[str], params: Any
) -> list[list[str]]:
    """The jobs of a sweep: the product, then the cases on top of what was typed.

    Args:
        jobs: the product, as the sweeper made it.
        cases: the config's `cases`, a list of lists of overrides, or nothing.
        typed: the overrides of the command line.
        params: the config's `hydra.sweeper.params`, or nothing.

    Returns:
        One list of overrides a job; the cases alone when there are cases and nothing was swept.
    """
    product = [list(job) for job in jobs]
    if not cases:
        return product
    if not isinstance(cases, list) or not all(_is_case(case) for case in cases):
        raise ConfigError.of(
            f"cases={cases}", "must be a list of lists of overrides, [[decoding=greedy], ...]"
        )
    fixed = [text for text in typed if not _parsed(text).is_sweep_override()]
    of_cases = [united(fixed, case) for case in cases]
    swept = bool(params) or len(fixed) < len(typed)
    return product + of_cases if swept else of_cases


def compose_one(catalog: Catalog, overrides: list[str]) -> Composed:
    """Compose one config outside of Hydra's run; for the words that need a point but run no sweep."""
    from hydra.types import RunMode

    loader = catalog.loader
    load = lambda texts: loader.load_configuration(CONFIG_NAME, texts, RunMode.RUN)  # noqa: E731
    return composer_of(loader, load).compose(overrides)


def sweep_name(choices: dict[str, Any]) -> str:
    """The experiment's name, else `sweep`."""
    return str(choices.get(EXPERIMENTS) or "sweep")


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Override:
    return parse(text)


def _is_case(case: Any) -> bool:
    return isinstance(case, list) and bool(case) and all(isinstance(text, str) for text in case)
