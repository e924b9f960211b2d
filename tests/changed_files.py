"""Changes to files of a small checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHORT = ("prompts=custom", "prompts.items=['It was']", "generation.max_new_tokens=8")
"""Overrides of a point whose prompt fits a small checkpoint."""


def edit_json(path: Path, **values: Any) -> None:
    """Set keys of a JSON file, which is created if need be; None removes one."""
    found = (json.loads(path.read_text()) if path.is_file() else {}) | values
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def change_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Apply a change to the weights, by name, of a checkpoint of one file."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
