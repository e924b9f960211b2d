"""Energy counters: what a GPU (NVML) or a processor (RAPL) has used since it was last looked at.

Only counters of the hardware are read. Without one there is no energy, and a reason why: watts of a table,
times seconds, would be the same for a busy machine and an idle one.
"""

from __future__ import annotations

from typing import Protocol

from harness.errors import HarnessError


class NoEnergyError(HarnessError):
    """No energy can be measured; the message is why, in one line."""


class EnergyMeter(Protocol):
    """A counter of energy.

    Attributes:
        source: what counts, as in `NVML (NVIDIA A100)`.
    """

    source: str

    def joules(self) -> float:
        """Return the energy that was used since the meter was opened.

        Raises:
            NoEnergyError: the counter cannot be read any more, or what it counted is not known.
        """

    def check_alone(self, *, idle: bool = False) -> None:
        """Check that nobody else uses what is counted, as far as that can be seen.

        Args:
            idle: whether this process has been waiting for some seconds, so that any use is another's.

        Raises:
            NoEnergyError: somebody does, so that the energy is not this process's.
        """
