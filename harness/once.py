"""Values that are expensive to make and shared by many points: each is made once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from harness.errors import ConfigError

Value = TypeVar("Value")


class Once:
    """Makes a value once a key; a ConfigError is remembered like a value, and raised again."""

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[Any, ConfigError | None]] = {}

    def __call__(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made by `make` when it is asked for first."""
        if key not in self._made:
            try:
                self._made[key] = (make(), None)
            except ConfigError as error:
                self._made[key] = (None, error)
        value, refused = self._made[key]
        if refused is not None:
            raise refused
        return value
