"""What a store holds that does not depend on time, to be compared between runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

TABLES = {
    "tokens": None,
    "drift": None,
    "drift_text": None,
    "generations": ["prompt_id", "sample", "output", "finish_reason", "mean_logprob", "distinct_2"],
}


def tables(outputs: Path) -> dict[str, Any]:
    """All that does not depend on time, by point and table."""
    found: dict[str, Any] = {}
    for folder in sorted((outputs / "points").iterdir()):
        for name, columns in TABLES.items():
            if (folder / f"{name}.parquet").is_file():
                table = pq.read_table(folder / f"{name}.parquet", columns=columns)
                found[f"{folder.name}/{name}"] = table.to_pylist()
    return found
