"""What people said of a sweep's texts: `feedback.json` in the sweep's folder, as it was last read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.store.files import write_text

FILE = "feedback.json"


def known_feedback(folder: Path) -> tuple[dict[str, Any], ...]:
    """The feedback that was last read of the sweep in this folder.

    Returns:
        `label`, `prompt_id` and `sample` of the text, and `name`, `value` (a bool, number, text, list or
        map; None for a mere comment), `comment` and `source` of what was said; empty where nothing was read.
    """
    path = folder / FILE
    return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else ()


def keep_feedback(folder: Path, feedback: Sequence[Mapping[str, Any]]) -> None:
    """Write feedback.json, whole or not at all."""
    write_text(folder / FILE, json.dumps(list(feedback), indent=1, ensure_ascii=False) + "\n")


def feedback_means(feedback: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By label, `feedback/<name>`: the mean of what was said in numbers, yes counting 1 and no 0.

    Every answer counts the same, whoever gave it and however many a text got.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for said in feedback:
        value = said["value"]
        if isinstance(value, bool | int | float) and math.isfinite(value):
            values.setdefault(said["label"], {}).setdefault(f"feedback/{said['name']}", []).append(
                float(value)
            )
    return {
        label: {key: math.fsum(some) / len(some) for key, some in by_name.items()}
        for label, by_name in values.items()
    }
