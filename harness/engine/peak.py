"""Peak memory: of the CUDA device where there is one, of this process otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_MIB = 1024.0 * 1024.0


class Peak:
    """Filled in when the `peak_memory` block ends: `mb`, in MiB; None where it cannot be measured."""

    mb: float | None = None


@contextmanager
def peak_memory(device: str) -> Iterator[Peak]:
    """Measure the peak within the block: allocated CUDA memory, or the process's resident set."""
    peak = Peak()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _reset_high_water()
    yield peak
    if device.startswith("cuda"):
        peak.mb = torch.cuda.max_memory_allocated(device) / _MIB
    else:
        peak.mb = _high_water_mb()


def _reset_high_water() -> None:
    """Let the kernel forget the process's peak (Linux, proc(5), clear_refs 5); elsewhere it stays."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _high_water_mb() -> float | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024.0
    except OSError:
        pass
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / _MIB if sys.platform == "darwin" else used / 1024.0
