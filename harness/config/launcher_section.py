"""What every launcher of ours is: a section of keys below `hydra.launcher`, and the words about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, get_origin

from pydantic import Field
from pydantic.fields import FieldInfo

from harness.config.base import Natural, Section
from harness.errors import Mistake

GROUP = "hydra/launcher"
PREFIX = "hydra.launcher."


class LauncherSection(Section):
    """Keys that all launchers have.

    Attributes:
        NAME: the choice of `hydra/launcher`.
        SUMMARY: what it does, in a line.
        GUIDE: what its help says below the keys: examples, and what to know.
        SAME: keys of other launchers, and ours that mean the same.
        GPUS: the key that gives each worker GPUs of another machine; empty where there is none.
        VALUES: what a key takes, where its type says too little: `a list of different numbers, as in [0,2]`.
    """

    NAME: ClassVar[str]
    SUMMARY: ClassVar[str]
    GUIDE: ClassVar[str]
    SAME: ClassVar[Mapping[str, str]] = {}
    VALUES: ClassVar[Mapping[str, str]] = {}
    GPUS: ClassVar[str] = ""

    retries: Natural = Field(2, description="how often a worker that died is started again at its group")

    @property
    def device(self) -> str | None:
        """The kind of device that its workers have, `cuda` or `cpu`; None for what this machine has."""
        return None

    @property
    def worker_gpus(self) -> int | None:
        """How many GPUs each of its workers sees; None where that is unknown."""
        return None

    @property
    def device_gb(self) -> float | None:
        """The memory of one GPU that a worker may use, in GB of 10^9 bytes; None where it is unknown."""
        return None

    def mistakes(self) -> Iterator[Mistake]:
        """Yield what is wrong between values that are right by themselves."""
        yield from ()

    @classmethod
    def all_keys(cls) -> dict[str, FieldInfo]:
        """Return its keys, as in `retries` or `init.address`; those of all launchers last."""
        common = LauncherSection.model_fields
        return dict(sorted(_leaves(cls, ""), key=lambda leaf: leaf[0] in common))

    @classmethod
    def key_of(cls, path: str) -> str | None:
        """Return the key that a dotted path sets: itself, or one that takes a mapping; None for no key."""
        for key, info in cls.all_keys().items():
            if path == key or (_is_mapping(info) and path.startswith(f"{key}.")):
                return key
        return None

    def wrong(self, key: str, message: str) -> Mistake:
        """Return the mistake of a key's value."""
        value: Any = self
        for name in key.split("."):
            value = getattr(value, name)
        return wrong_value(key, value, message)


def wrong_value(key: str, value: Any, message: str) -> Mistake:
    """Return the mistake of a launcher's key, its value as one types it."""
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, (list, tuple)):
        shown = f"[{','.join(map(str, value))}]"
    return Mistake(f"{PREFIX}{key}={shown}", message)


def _leaves(section: type[Section], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from _leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


def _is_mapping(info: FieldInfo) -> bool:
    return get_origin(info.annotation) in (dict, Mapping) or info.annotation is dict
