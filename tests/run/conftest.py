"""What the engine is watched and disturbed with while a sweep runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts were decoded, one entry a tree; what the self-test at load decodes is not counted."""
    # Imported before the patch, so that it holds the function as it is.
    import harness.backends.hf.self_test  # noqa: F401
    import harness.backends.hf.tree as engine

    calls: list[int] = []
    honest = engine.decode_tree

    def counted(loaded: Any, texts: Any, *args: Any, **keys: Any) -> Any:
        calls.append(len(texts))
        return honest(loaded, texts, *args, **keys)

    monkeypatch.setattr(engine, "decode_tree", counted)
    return calls


@pytest.fixture
def no_penalties(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`with no_penalties(ValueError): ...`: strategies with a repetition penalty raise it."""
    from harness.decoding.processors import Processors

    honest = Processors.__call__

    @contextmanager
    def without(error: type[BaseException]) -> Iterator[None]:
        def broken(self: Any, *args: Any, **more: Any) -> Any:
            if self._first:
                raise error("no luck today")
            return honest(self, *args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(Processors, "__call__", broken)
            yield

    return without
