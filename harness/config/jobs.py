"""The jobs of a sweep: the product of what is swept, then the cases, each as a list of overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.config.groups import ConfigGroups
from harness.config.overrides import parse_override
from harness.config.schema import choice_sections
from harness.config.sweep_size import check_product, check_size, value_count
from harness.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

CUSTOM_KEYS = {"model": ("model.id",), "prompts": ("prompts.file", "prompts.items")}
"""By section the keys that name a user's own model or prompts."""


@dataclass(frozen=True)
class JobOverrides:
    """The overrides of one job.

    Attributes:
        overrides: as on a command line.
        fixed: the keys that a case sets together with the choice that they belong to.
    """

    overrides: tuple[str, ...]
    fixed: frozenset[str] = frozenset()


def sweep_jobs(config: DictConfig, groups: ConfigGroups) -> list[JobOverrides]:
    """Return the jobs of a sweep, from Hydra's config of the command.

    First the product of `hydra.sweeper.params` and the command line, the first key slowest; then the `cases`.

    Raises:
        ConfigError: there are too many points.
    """
    from omegaconf import OmegaConf

    # As they are: what is taken from a config would have lost the backslash before a literal `${`.
    task: Any = OmegaConf.to_container(config.hydra.overrides.task)
    typed = [str(text) for text in task]
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    cases = OmegaConf.to_container(config.cases) if config.get("cases") else []
    return jobs_with_cases(typed, params, cases, groups)


def jobs_with_cases(
    typed: Sequence[str], params: Sequence[str], cases: Any, groups: ConfigGroups
) -> list[JobOverrides]:
    """Return the product, then each case with what it does not set itself of the product.

    A case that chooses a strategy is not combined with the strategies that are swept, nor with the values of
    their keys, but with the quantizations, if it names none. The cases are alone where the product would add
    nothing that the command names: nothing is swept, or only what the cases are combined with, on top of
    choices that only they make.

    Args:
        typed: the overrides of the command line.
        params: the config's `hydra.sweeper.params`, as overrides.
        cases: the config's `cases`, a list of lists of overrides, or nothing.
        groups: for `glob(...)`.

    Raises:
        ConfigError: `cases` is no list of lists, or there are too many points.
    """
    swept = [*params, *typed]
    check_product(map(_parsed, swept), groups.choices)
    if not cases:
        return [JobOverrides(job) for job in _product(swept, groups)]
    if not isinstance(cases, list) or not all(_is_case(case) for case in cases):
        raise ConfigError.of(
            f"cases={cases}", "must be a list of lists of overrides, [[decoding=greedy], ...]"
        )
    several = {text for text in swept if _parsed(text).is_sweep_override()}
    combined = [[text for text in _last_of_each(swept) if not _is_own(text, case, several)] for case in cases]
    chosen = {key_of(text) for text in swept}
    alone = not params and all(
        several <= set(texts) and (not several or _chooses_beside(case, chosen))
        for case, texts in zip(cases, combined, strict=True)
    )
    jobs = [] if alone else [JobOverrides(job) for job in _product(swept, groups)]
    count = len(jobs) + sum(_size(texts, groups.choices) for texts in combined)
    check_size("cases", count)
    for case, texts in zip(cases, combined, strict=True):
        jobs += [_case_job(job, case) for job in _product(texts, groups)]
    return jobs


def merge_overrides(base: Iterable[str], extra: Sequence[str]) -> list[str]:
    """Return `base` and `extra`: the last one of a key or group counts.

    A choice in `extra` also removes the custom keys of its section from `base`, which would override it.
    """
    chosen = {key for text in extra if (key := key_of(text)) in CUSTOM_KEYS}
    overridden = {key for section in chosen for key in CUSTOM_KEYS[section]}
    return _last_of_each([*(text for text in base if key_of(text) not in overridden), *extra])


def key_of(text: str) -> str:
    """Return the key or group of an override."""
    return text.lstrip("+").partition("=")[0]


def _case_job(base: Sequence[str], case: Sequence[str]) -> JobOverrides:
    keys = {key_of(text) for text in case}
    belongs = {key: "decoding" if key.startswith("generation.") else key.partition(".")[0] for key in keys}
    return JobOverrides(
        tuple(merge_overrides(base, case)),
        frozenset(key for key in keys if "." in key and belongs[key] in keys),
    )


def _is_own(text: str, case: Sequence[str], several: set[str]) -> bool:
    """Whether a case sets what an override sets; of several values, also where it makes their choice."""
    key, own = key_of(text), {key_of(one) for one in case}
    return text in several and (key in own or key.partition(".")[0] in own)


def _chooses_beside(case: Sequence[str], chosen: set[str]) -> bool:
    """Whether a case makes a choice that is made nowhere else in the command."""
    return any(key in choice_sections() and key not in chosen for key in map(key_of, case))


def _product(swept: Sequence[str], groups: ConfigGroups) -> list[tuple[str, ...]]:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    overrides = [parse_override(text) for text in swept]
    for override in overrides:
        override.config_loader = groups.loader  # for `glob(...)`
    (product,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return [tuple(job) for job in product]


def _size(swept: Sequence[str], choices: Mapping[str, Sequence[str]]) -> int:
    count = 1
    for text in swept:
        count *= value_count(_parsed(text), choices)
    return count


def _last_of_each(texts: Iterable[str]) -> list[str]:
    """The last override of each key."""
    merged: dict[str, str] = {}
    for text in texts:
        merged.pop(key_of(text), None)
        merged[key_of(text)] = text
    return list(merged.values())


def _is_case(case: Any) -> bool:
    return isinstance(case, list) and bool(case) and all(isinstance(text, str) for text in case)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Override:
    return parse_override(text)
