"""Processes that run. One may end, or be a zombie, between being listed and being asked."""

from collections.abc import Iterable
from contextlib import suppress

import psutil


def living(*texts: str, among: Iterable[psutil.Process] | None = None) -> list[psutil.Process]:
    """The processes (of the machine, or `among` these) that run and have all texts in their command line."""
    found = []
    for process in psutil.process_iter() if among is None else among:
        with suppress(psutil.Error):
            words = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and all(text in words for text in texts):
                found.append(process)
    return found


def living_children(*texts: str, of: int | None = None) -> list[psutil.Process]:
    """Those among the descendants of a process (by its id; this one without)."""
    try:
        below = psutil.Process(of).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return living(*texts, among=below)
