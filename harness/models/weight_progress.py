"""Load weights quietly: transformers' progress bars and warnings off, its progress passed to a callback."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import ERROR, getLogger
from typing import Any

from tqdm import tqdm


@contextmanager
def quiet_loading(on_fraction: Callable[[float], None] = lambda fraction: None) -> Iterator[None]:
    """Silence transformers while the block runs; `on_fraction` gets its loading bar's fraction, 0 to 1."""
    from transformers.utils import logging

    def bar(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Bar:
        return _Bar(on_fraction, *args, **kwargs)

    # What transformers warns of while decoding is checked by the rules; the variable turns it on again.
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()
        getLogger("accelerate.big_modeling").setLevel(ERROR)  # of offloaded weights the harness tells itself
    previous = logging.set_tqdm_hook(bar)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_tqdm_hook(previous)


class _Bar(tqdm):  # type: ignore[type-arg]
    """A bar that shows nothing and reports the fraction done."""

    def __init__(self, on_fraction: Callable[[float], None], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})
        self._on_fraction = on_fraction

    def __iter__(self) -> Iterator[Any]:
        for item in self.iterable:
            yield item
            self.update()

    def update(self, n: float | None = 1) -> None:
        self.n += n or 0
        if self.total:
            self._on_fraction(min(1.0, self.n / self.total))
