"""Which process this is, as the files of a store that several machines share name it."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def this_host() -> str:
    """Return a name of this machine as it runs now: processes with the same one see each other's ids.

    Beside the host's name it has the identity of the system's start, since two machines may have one name,
    and of the namespace of process ids, since containers of one machine may have one name.
    """
    parts = [platform.node() or "unnamed"]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8])
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return " ".join(parts)


def has_ended(process: int) -> bool:
    """Return whether a process of this machine has ended; one that nobody has waited for yet has.

    Another process may have its id by now: then it seems to go on.
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    import psutil

    with suppress(psutil.Error):
        return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    return False
