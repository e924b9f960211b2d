"""Models that stay loaded between calls."""

from __future__ import annotations

import threading
from types import TracebackType

from harness.api.guest import guest
from harness.errors import ConfigError
from harness.run.kept_backends import KeptBackends

_here = threading.local()
"""`session`: the one that is open in this thread. (A notebook's cells share a thread, but no context.)"""


class Session:
    """Keeps the last models loaded, so that the next sweep or text of the same model begins at once.

        with harness.session():
            first = harness.sweep(model="fable_small", decoding="greedy")
            second = harness.sweep(model="fable_small", decoding="top_p")

    In a notebook, where the cells of a block cannot be run one by one: `session = harness.session()`, then
    `session.open()` in one cell and `session.close()` in another. It acts on calls of its thread.

    Args:
        keep: how many models stay loaded. One that is not among the last is freed before another is loaded.
    """

    def __init__(self, keep: int = 1) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ConfigError.of(f"keep={keep!r}", "must be a whole number above 0")
        self.backends = KeptBackends(keep)
        self._outer: Session | None = None
        self._open = False

    @property
    def loads(self) -> int:
        """How many models were loaded so far."""
        return self.backends.loads

    def open(self) -> Session:
        """Keep the models of the calls that follow; returns the session."""
        if not self._open:
            self._outer, self._open = _current(), True
            _here.session = self
        return self

    def close(self) -> None:
        """Free the models; what is called later loads its own."""
        if self._open:
            if _current() is self:
                _here.session = self._outer
            self._open = False
        with guest():
            self.backends.close()

    def __enter__(self) -> Session:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def session(keep: int = 1) -> Session:
    """Return a Session, which keeps `keep` models loaded: `with harness.session(): ...`."""
    return Session(keep)


def kept_backends() -> KeptBackends | None:
    """Return what keeps the models of the session that is open here; None without one."""
    current = _current()
    return None if current is None else current.backends


def _current() -> Session | None:
    return getattr(_here, "session", None)
