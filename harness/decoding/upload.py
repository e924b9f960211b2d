"""Numbers from the host to a device, without waiting for what the device is doing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def on_device(values: Sequence[Any], device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor of Python numbers, nested or not.

    `torch.tensor(values, device="cuda")` copies from pageable memory, and so returns only once the GPU has
    done all that was queued before: a step has forty such small copies. From pinned memory the copy is queued
    like the rest.
    """
    if torch.device(device).type != "cuda":
        return torch.tensor(values, dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)


def moved(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, from the host or from there."""
    if values.device == device or device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
