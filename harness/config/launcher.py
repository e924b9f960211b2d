"""Who runs the groups of a sweep: `hydra/launcher=...`, which the harness maps to an executor of its own.

Hydra's launchers, and those of its plug-ins, would run every point as a job by itself, each with a load of
its own and in a sweep of its own; they are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from harness.config.base import Natural, Positive, Section
from harness.config.suggest import did_you_mean
from harness.errors import ConfigError, Mistake

GROUP = "hydra/launcher"
SERIAL = "basic"
LOCAL_GPUS = "local_gpus"
LAUNCHERS = {
    SERIAL: "one group after the other, in this process; the default",
    LOCAL_GPUS: "groups side by side: a worker process for each GPU of this machine",
}
"""The choices of `hydra/launcher`, and what each does."""

_ELSEWHERE = {"n_jobs": "workers", "tasks_per_node": "workers", "gpus_per_node": "gpus_per_worker"}
"""Keys of other launchers, and ours that mean the same."""

NAMES = (GROUP, "hydra.launcher", "launcher", "launchers", LOCAL_GPUS)
"""What `harness help` finds the launchers by."""

_VALUES = {
    "workers": "auto or a whole number of at least 1",
    "gpus_per_worker": "a whole number of at least 1",
    "gpus": "auto or a list of different numbers, as in [0,2]",
    "retries": "a whole number of at least 0",
}


class LocalGpus(Section):
    """`hydra/launcher=local_gpus`: worker processes on this machine."""

    workers: Literal["auto"] | Positive = Field(
        "auto", description="worker processes; auto: one for each set of GPUs, one without a GPU"
    )
    gpus_per_worker: Positive = Field(1, description="GPUs that each worker sees")
    gpus: Literal["auto"] | Annotated[tuple[Natural, ...], Field(min_length=1)] = Field(
        "auto", description="the GPUs to use, as in [0,2]; auto: all that CUDA_VISIBLE_DEVICES leaves"
    )
    retries: Natural = Field(2, description="how often a worker that died is started again at its group")


Launcher = LocalGpus
"""Every launcher that starts workers."""

KEYS = tuple(f"hydra.launcher.{name}" for name in LocalGpus.model_fields)


def launcher_of(config: Mapping[str, Any], choice: str | None) -> Launcher | None:
    """Return the launcher that a composed config asks for; None for this process.

    Args:
        config: `hydra.launcher`, as plain values.
        choice: of the group `hydra/launcher`.

    Raises:
        ConfigError: with every wrong value.
    """
    if choice != LOCAL_GPUS:
        return None
    values = {key: value for key, value in config.items() if key in LocalGpus.model_fields}
    if isinstance(values.get("gpus"), list):
        values["gpus"] = tuple(values["gpus"])
    try:
        found = LocalGpus(**values)
    except ValidationError as error:
        wrong = dict.fromkeys(str(detail["loc"][0]) for detail in error.errors())
        raise ConfigError(_wrong(name, config.get(name)) for name in wrong) from None
    if found.gpus != "auto" and len(set(found.gpus)) < len(found.gpus):
        raise ConfigError([_wrong("gpus", config["gpus"])])
    return found


def _wrong(name: str, value: Any) -> Mistake:
    shown = str(value).replace(" ", "")
    return Mistake(f"hydra.launcher.{name}={shown}", f"must be {_VALUES[name]}")


def launcher_mistake(key: str, value: Any, text: str) -> Mistake | None:
    """Return the mistake of an override of `hydra/launcher` or of a key below `hydra.launcher`, if any.

    Args:
        key: of the override.
        value: of the override; None for none, or for several.
        text: the override as it was typed.
    """
    if key == GROUP:
        if isinstance(value, str) and value in LAUNCHERS:
            return None
        alone = "would run every point by itself, with a load of its own; "
        cure = f"use {GROUP}={LOCAL_GPUS} for the GPUs of this machine, or leave it out"
        hint = did_you_mean(text.partition("=")[2], LAUNCHERS)
        return Mistake(text, f"no such launcher{hint}" if hint else alone + cure)
    if key in KEYS:
        return None if value is not None else Mistake(text, "one value only: it is about the whole sweep")
    name = key.rpartition(".")[2]
    hint = f"; use hydra.launcher.{_ELSEWHERE[name]}" if name in _ELSEWHERE else did_you_mean(key, KEYS)
    return Mistake(text, f"no such key{hint} (keys: {', '.join(LocalGpus.model_fields)})")


def without_launcher(overrides: Iterable[str]) -> list[Mistake]:
    """Return the overrides of a launcher's keys that have no effect, since no launcher is chosen."""
    given = {text.lstrip("+").partition("=")[0]: text for text in overrides}
    if given.get(GROUP, "").endswith(f"={LOCAL_GPUS}"):
        return []
    message = f"no effect without a launcher; add {GROUP}={LOCAL_GPUS}"
    return [Mistake(text, message) for key, text in given.items() if key in KEYS or _shares(text)]


def _shares(text: str) -> bool:
    """Return whether an override asks for workers that share a group."""
    key, _, value = text.lstrip("+").partition("=")
    return key == "engine.shards" and value.isdecimal() and int(value) > 1
