"""Load weights quietly: transformers' progress bars and warnings off, its progress passed to a callback."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_loading(on_fraction: Callable[[float], None] = lambda fraction: None) -> Iterator[None]:
    """Silence transformers while the block runs; `on_fraction` gets its loading bar's fraction, 0 to 1."""
    from transformers.utils import logging

    def bar(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _Bar(args[0] if args else kwargs.get("iterable"), kwargs.get("total"), on_fraction)

    # What transformers warns of while decoding is checked by the rules; the variable turns it on again.
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()
    previous = logging.set_tqdm_hook(bar)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_tqdm_hook(previous)


class _Bar:
    """As much of a tqdm bar as transformers' loading uses; it shows nothing and reports the fraction done."""

    def __init__(self, items: Any, total: int | None, on_fraction: Callable[[float], None]) -> None:
        self._items = items
        self._total = total or (len(items) if hasattr(items, "__len__") else 0)
        self._done = 0
        self._on_fraction = on_fraction

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            yield item
            self.update(1)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Callable[..., None]:
        # set_description, set_postfix, refresh, ...: nothing to show.
        return lambda *args, **kwargs: None

    def update(self, count: float = 1) -> None:
        self._done += int(count)
        if self._total:
            self._on_fraction(min(1.0, self._done / self._total))

    def close(self) -> None:
        """Do nothing."""
