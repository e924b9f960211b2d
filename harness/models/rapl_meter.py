"""RAPL: the energy of the processor and its memory, which Intel's and AMD's count and Linux shows in files.

The counters are those of whole packages, all programs together. They wrap around at `max_energy_range_uj`
(Linux, Documentation/power/powercap/powercap.rst).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.models.energy import NoEnergyError

POWERCAP = Path("/sys/class/powercap")
MOST_WATTS = 1000.0
"""No package uses more, so that a counter that is read in time has wrapped around once at most."""
_COUNTED = ("package", "dram")
"""Beginnings of the names of zones; `core` and `uncore` are in `package`, and `psys` holds all of them."""


@dataclass
class _Zone:
    """A counter: its name, its file, where it wraps around and what it read last, both in microjoules."""

    name: str
    file: Path
    span: int
    last: int


class RaplMeter:
    """The energy of all packages and their memory; an `EnergyMeter`."""

    def __init__(self, folder: Path = POWERCAP, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the counters below a folder for the first time.

        Raises:
            NoEnergyError: there are none, or they cannot be read.
        """
        self._clock, self._read_at, self._microjoules = clock, clock(), 0
        self._zones = [
            _Zone(
                name, zone / "energy_uj", _number(zone / "max_energy_range_uj"), _number(zone / "energy_uj")
            )
            for zone in sorted(folder.glob("intel-rapl:*"))
            if (name := _text(zone / "name")).startswith(_COUNTED)
        ]
        if not any(zone.name.startswith("package") for zone in self._zones):
            raise NoEnergyError("this machine shows no RAPL counters; virtual machines rarely do")
        self.source = f"RAPL ({', '.join(zone.name for zone in self._zones)})"
        self._longest = min(zone.span for zone in self._zones) / 1e6 / MOST_WATTS

    def joules(self) -> float:
        """Return the energy since the meter was opened; raises when a counter may have wrapped unseen."""
        now = self._clock()
        late = now - self._read_at > self._longest
        self._read_at = now
        for zone in self._zones:
            reading = _number(zone.file)
            used = reading - zone.last
            self._microjoules += used if used >= 0 else used + zone.span
            zone.last = reading
        if late:
            raise NoEnergyError(
                f"the counter was not read for over {self._longest:.0f} s: it may have wrapped around unseen"
            )
        return self._microjoules / 1e6

    def check_alone(self, *, idle: bool = False) -> None:
        """Do nothing: the package is counted, whoever computes; its idle power is reported beside."""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except PermissionError:
        cure = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
        raise NoEnergyError(f"only root may read RAPL's counters here; `{cure}` lets all") from None
    except OSError as error:
        raise NoEnergyError(f"{path} cannot be read ({error.strerror})") from None


def _number(path: Path) -> int:
    text = _text(path)
    if not text.isdecimal():
        raise NoEnergyError(f"{path} holds no number")
    return int(text)
