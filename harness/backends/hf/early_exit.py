"""A model cut to its first layers: these, the last norm and the output head are the draft of early exit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from harness.errors import HarnessError


class FirstLayers:
    """A model's first layers; `with layers(): ...` the model has no others."""

    def __init__(self, model: Any, count: int) -> None:
        """Find the layers.

        Raises:
            HarnessError: they are not found.
        """
        total = model.config.get_text_config().num_hidden_layers
        for owner in model.modules():
            for name, layers in owner.named_children():
                if isinstance(layers, nn.ModuleList) and len(layers) == total:
                    self._owner, self._name, self._every = owner, name, layers
                    self._first = nn.ModuleList(layers[:count])
                    return
        kind = type(model).__name__
        raise HarnessError(
            f"speculation.early_exit={count}: the layers of {kind} are not known; leave it out"
        )

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let the model be its first layers."""
        setattr(self._owner, self._name, self._first)
        try:
            yield
        finally:
            setattr(self._owner, self._name, self._every)
