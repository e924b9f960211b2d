"""What a model costs, as a backend runs it: random prompts, a fixed number of tokens, greedily."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from harness.models.energy import EnergyMeter


@dataclass(frozen=True)
class CostShape:
    """What is run.

    Attributes:
        prompt_tokens: of each prompt, random ids of the vocabulary.
        new_tokens: generated of each prompt, end-of-text or not.
        batch_size: prompts in a batch.
        cache: settings of a quantized KV cache; None for the model's own.
    """

    prompt_tokens: int
    new_tokens: int
    batch_size: int
    cache: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CostRun:
    """The times of one batch, in seconds.

    Attributes:
        prefill: from the call to the logits of the first token.
        decode: from there to the end, in which all tokens but the first are computed.
        tokens: between the logits of each token and those of the next.
    """

    prefill: float
    decode: float
    tokens: tuple[float, ...]


@dataclass(frozen=True)
class PeakMemory:
    """The most memory during a batch, in MB of 10^6 bytes; None where it is not known.

    Attributes:
        allocated: of tensors on the GPUs.
        reserved: of torch's allocator on the GPUs, with what it keeps for later.
        used: of the GPUs with all that is on them; on a CPU the resident memory of this process.
    """

    allocated: float | None
    reserved: float | None
    used: float | None


@runtime_checkable
class MeteredBackend(Protocol):
    """A backend whose device may have an energy counter."""

    def energy_meter(self, *, alone: bool = True) -> EnergyMeter:
        """Open the counter; `alone` says whether other workers wait while it is read.

        Raises:
            NoEnergyError: there is none that can be read.
        """


@runtime_checkable
class CostedBackend(MeteredBackend, Protocol):
    """A backend whose model can be run by itself."""

    def run_model(self, shape: CostShape, new_tokens: int, count: int = 1) -> Sequence[CostRun]:
        """Run a batch `count` times with `new_tokens` in place of the shape's; the device is idle after."""

    def peak_memory(self, shape: CostShape) -> PeakMemory:
        """Run a batch once, and return the most memory meanwhile."""
