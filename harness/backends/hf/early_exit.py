"""A model cut to its first layers: these, the last norm and the output head are the draft of early exit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from harness.errors import HarnessError


@contextmanager
def first_layers(model: Any, count: int) -> Iterator[None]:
    """Let a model be its first `count` layers.

    Raises:
        HarnessError: its layers are not found.
    """
    total = model.config.get_text_config().num_hidden_layers
    for owner in model.modules():
        for name, layers in owner.named_children():
            if isinstance(layers, nn.ModuleList) and len(layers) == total:
                setattr(owner, name, nn.ModuleList(layers[:count]))
                try:
                    yield
                finally:
                    setattr(owner, name, layers)
                return
    kind = type(model).__name__
    raise HarnessError(f"speculation.early_exit={count}: the layers of {kind} are not known; leave it out")
