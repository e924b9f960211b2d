"""Garbage collection of a command: from when its imports are done, and not among what these have made.

torch, transformers and MLflow define two million objects that stay. To look for garbage among them again and
again takes a twentieth of the time to the first token, and a quarter of a second whenever all are looked at.
"""

from __future__ import annotations

import gc

_own_process = _postponed = False


def collect_seldom() -> None:
    """Look for garbage after each 100,000 new objects, not each 700, in a process that is a command's."""
    global _own_process
    _own_process = True
    gc.set_threshold(100_000, 50, 100)


def postpone_collection() -> None:
    """Collect nothing until `begin_collection` is called, in a process that is a command's.

    Who loads a model calls that; commands that load none are to call it themselves, or to end soon.
    """
    global _postponed
    if _own_process and gc.isenabled():
        _postponed = True
        gc.disable()


def begin_collection() -> None:
    """Collect what becomes garbage from now on, if that was postponed; what there is now is kept for good."""
    global _postponed
    if _postponed:
        _postponed = False
        gc.freeze()
        gc.enable()
