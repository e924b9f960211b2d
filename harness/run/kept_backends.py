"""Backends that stay open between groups and sweeps, so that a model is loaded once for many of them."""

from __future__ import annotations

import json
from contextlib import suppress

from harness.artifacts.job import Job
from harness.backends.backend import Backend
from harness.garbage import begin_collection
from harness.progress import Progress


class KeptBackends:
    """Opens backends, and keeps the last ones open until they are in the way.

    Args:
        keep: how many stay open; with 0 each is closed when it is given back.

    Attributes:
        loads: how many were opened so far.
    """

    def __init__(self, keep: int) -> None:
        self.loads = 0
        self._keep = keep
        self._open: dict[str, Backend] = {}  # least recently used first

    def open(self, job: Job, progress: Progress) -> Backend:
        """Return a backend for a job's group: one that is open, else a new one.

        Kept ones are closed first where the new one would be one too many, so that it has their memory.
        """
        key = _key(job)
        backend = self._open.pop(key, None)
        if backend is None:
            while self._open and len(self._open) >= self._keep:
                self.close_one(next(iter(self._open.values())))
            backend = job.target.open(progress)
            begin_collection()
            self.loads += 1
        self._open[key] = backend
        return backend

    def release(self, backend: Backend) -> None:
        """Take a backend back after use."""
        if len(self._open) > self._keep:
            self.close_one(backend)

    def close_one(self, backend: Backend) -> None:
        """Close a backend, whose state may be unknown."""
        self._open = {key: one for key, one in self._open.items() if one is not backend}
        backend.close()

    def close(self) -> None:
        """Close all of them."""
        for backend in list(self._open.values()):
            with suppress(Exception):  # the others are closed in any case
                self.close_one(backend)


def _key(job: Job) -> str:
    """Return what the jobs share that one backend can answer: the model as it is on the disk now, and how.

    Its facts hold a fingerprint of the weights: a checkpoint that was written anew is loaded anew.
    """
    point = job.point
    sections = (point.model, point.quantization, point.backend)
    config = [section.model_dump_json() for section in sections]
    return json.dumps(
        [*config, dict(job.target.facts), job.target.tokenizer_facts], sort_keys=True, default=str
    )
