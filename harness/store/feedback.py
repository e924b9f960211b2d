"""People's feedback on a sweep's outputs: `feedback.json` in its folder, as last read from MLflow."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.store.files import read_json, write_text

log = logging.getLogger(__name__)

FILE = "feedback.json"
_KEYS = {"label", "prompt_id", "sample", "name", "value", "comment", "source"}


def known_feedback(folder: Path) -> tuple[dict[str, Any], ...]:
    """Return the feedback on the sweep of this folder that was last read.

    Returns:
        Entries with `label`, `prompt_id` and `sample` of the output, and the feedback's `name`, `value` (a
        bool, number, text, list or map; None for a comment), `comment` and `source`; empty where none was
        read.
    """
    entries = read_json(folder / FILE)
    if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
        if (folder / FILE).exists():
            log.warning("%s is damaged; the feedback in it is left out", folder / FILE)
        return ()
    return tuple(entries)


def keep_feedback(folder: Path, feedback: Sequence[Mapping[str, Any]]) -> None:
    """Write feedback.json atomically."""
    write_text(folder / FILE, json.dumps(list(feedback), indent=1, ensure_ascii=False) + "\n")


def _is_entry(entry: Any) -> bool:
    """Return whether an entry of the file is whole."""
    texts = ("label", "prompt_id", "name", "comment", "source")
    return (
        isinstance(entry, dict)
        and entry.keys() >= _KEYS
        and all(isinstance(entry[key], str) for key in texts)
        and isinstance(entry["sample"], int)
    )


def feedback_means(feedback: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return, by label, `feedback/<name>`: the mean of numeric feedback, yes counting 1 and no 0.

    Every entry counts the same, whoever gave it and however many an output has.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for entry in feedback:
        value = entry["value"]
        if isinstance(value, bool | int | float) and math.isfinite(value):
            by_key = values.setdefault(entry["label"], {})
            by_key.setdefault(f"feedback/{entry['name']}", []).append(float(value))
    return {
        label: {key: math.fsum(some) / len(some) for key, some in by_name.items()}
        for label, by_name in values.items()
    }
