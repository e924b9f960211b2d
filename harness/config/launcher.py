"""Who runs the groups of a sweep: `hydra/launcher=...`, which the harness maps to an executor of its own.

Hydra's launchers, and those of its plug-ins, would run every point as a job by itself, each with a load of
its own and in a sweep of its own; they are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.config.launcher_section import GROUP, PREFIX, LauncherSection, wrong_value
from harness.config.local_gpus import LocalGpus
from harness.config.ray_launcher import RayLauncher
from harness.config.submitit_launchers import SubmititLocal, SubmititSlurm
from harness.config.suggest import did_you_mean
from harness.config.validation import describe_schema
from harness.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

SERIAL = "basic"
SERIAL_SUMMARY = "one group after the other, in this process; the default"

LAUNCHERS: Mapping[str, type[LauncherSection]] = {
    one.NAME: one for one in (LocalGpus, SubmititLocal, SubmititSlurm, RayLauncher)
}
"""Every launcher that starts workers, by the choice of `hydra/launcher`."""

_OTHERS = {
    "joblib": LocalGpus.NAME,
    "rq": SubmititSlurm.NAME,
    "ray_aws": RayLauncher.NAME,
    "ray_jobs": RayLauncher.NAME,
}
"""Launchers of Hydra's plug-ins, and ours that does what they are used for."""


def launcher_of(config: Mapping[str, Any], choice: str | None) -> LauncherSection | None:
    """Return the launcher that a composed config asks for; None for this process.

    Args:
        config: `hydra.launcher`, as plain values.
        choice: of the group `hydra/launcher`.

    Raises:
        ConfigError: with every wrong value.
    """
    section = LAUNCHERS.get(choice or "")
    if section is None:
        return None
    values = {key: value for key, value in config.items() if key in section.model_fields}
    try:
        found = section.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        wrong = dict.fromkeys(_key(section, detail["loc"]) for detail in error.errors())
        raise ConfigError(_wrong(section, key, values) for key in wrong) from None
    if mistakes := list(found.mistakes()):
        raise ConfigError(mistakes)
    return found


def _key(section: type[LauncherSection], location: tuple[int | str, ...]) -> str:
    """Return the key that an error's location is in."""
    path = ".".join(map(str, location))
    known = section.all_keys()
    return next((key for key in known if f"{path}.".startswith(f"{key}.")), path)


def _wrong(section: type[LauncherSection], key: str, values: Mapping[str, Any]) -> Mistake:
    value: Any = values
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if key not in section.all_keys():
        return wrong_value(key, value, f"no such key{did_you_mean(key, section.all_keys())}")
    return wrong_value(key, value, f"must be {values_of(section, key)}")


def values_of(section: type[LauncherSection], key: str) -> str:
    """Return what values a launcher's key takes: `auto or a whole number from 1`."""
    if key in section.VALUES:
        return section.VALUES[key]
    inner: Any = section
    *outer, last = key.split(".")
    for name in outer:
        inner = inner.model_fields[name].annotation
    return describe_schema(inner.model_json_schema()["properties"][last])


def chosen_launcher(overrides: Iterable[str]) -> str | None:
    """Return the choice of `hydra/launcher` that overrides make, whether there is such a one or not."""
    chosen = None
    for text in overrides:
        key, equals, value = text.lstrip("+").partition("=")
        if key == GROUP and equals:
            chosen = value
    return chosen


def launcher_mistake(override: Override, chosen: str | None) -> Mistake | None:
    """Return the mistake of an override of `hydra/launcher` or of a key below `hydra.launcher`, if any.

    Args:
        override: of one of them.
        chosen: the launcher of the command; None for none.
    """
    key, text = override.key_or_group, override.input_line or ""
    if key == GROUP:
        return _wrong_choice(None if override.is_sweep_override() else override.value(), text)
    several = Mistake(text, "one value only: it is about the whole sweep")
    path = key.removeprefix(PREFIX)
    homes = [section.NAME for section in LAUNCHERS.values() if section.key_of(path)]
    if chosen in (None, SERIAL):
        if homes:
            cures = " or ".join(f"{GROUP}={name}" for name in homes)
            return Mistake(text, f"no effect without a launcher; add {cures}")
        known = [f"{PREFIX}{one}" for section in LAUNCHERS.values() for one in section.all_keys()]
        return Mistake(text, f"no such key{did_you_mean(key, known)}")
    section = LAUNCHERS.get(chosen or "")
    if section is None:
        return None  # the launcher itself is the mistake
    if section.key_of(path):
        return several if override.is_sweep_override() else None
    hint = did_you_mean(key, [f"{PREFIX}{one}" for one in section.all_keys()])
    if path in section.SAME:
        hint = f"; use {PREFIX}{section.SAME[path]}"
    elif homes:
        hint = f" of {GROUP}={chosen}, only of {' and '.join(homes)}"
    return Mistake(text, f"no such key{hint} (keys: {', '.join(section.all_keys())})")


def shards_mistake(override: Override, chosen: str | None) -> Mistake | None:
    """Return the mistake of `engine.shards=N` in a command with this launcher, if any."""
    value = override.value()
    if chosen in (None, SERIAL) and isinstance(value, int) and value > 1:
        text = override.input_line or ""
        return Mistake(text, f"no effect without a launcher; add {GROUP}={LocalGpus.NAME}, or leave it out")
    return None


def _wrong_choice(value: Any, text: str) -> Mistake | None:
    known = [SERIAL, *LAUNCHERS]
    if isinstance(value, str) and value in known:
        return None
    name = text.partition("=")[2]
    if name not in _OTHERS and (hint := did_you_mean(name, known)):
        return Mistake(text, f"no such launcher{hint} (launchers: {', '.join(known)})")
    ours = _OTHERS.get(name, LocalGpus.NAME)
    cure = f"use {GROUP}={ours}, or leave it out (launchers: {', '.join(known)})"
    return Mistake(text, f"would run every point by itself, with a load of its own; {cure}")
