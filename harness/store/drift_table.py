"""The tables of drift: one row per token of a reference's samples, or of a fixed text, with both models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.store.files import atomic_path, storable
from harness.store.stored_point import StoredPoint

DRIFT = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("sample", pa.int32()),
        ("position", pa.int32()),
        ("token_id", pa.int64()),
        ("token", pa.string()),
        ("logprob", pa.float32()),
        ("drift_logprob", pa.float32()),
        ("rank", pa.int32()),
        ("drift_rank", pa.int32()),
        ("same_top", pa.bool_()),
        ("margin", pa.float32()),
        ("kl", pa.float64()),
        ("kl_error", pa.float64()),
        ("total_variation", pa.float64()),
        ("entropy", pa.float32()),
        ("drift_entropy", pa.float32()),
        ("top_ids", pa.list_(pa.int64())),
        ("top_tokens", pa.list_(pa.string())),
        ("top_logprobs", pa.list_(pa.float32())),
    ]
)
"""Columns `drift_*` and `top_*` are of the point; the others of the reference, or of both."""

_NUMBERS = (
    "logprob", "drift_logprob", "rank", "drift_rank", "same_top", "margin", "kl", "kl_error",
    "total_variation", "entropy", "drift_entropy", "top_ids", "top_logprobs",
)  # fmt: skip


def drift_rows(
    prompt_id: str,
    sample: int,
    token_ids: Sequence[int],
    token_texts: Sequence[str],
    top_tokens: Sequence[Sequence[str]],
    values: Mapping[str, np.ndarray],
) -> pa.Table:
    """Return the rows of one text.

    Args:
        prompt_id: the prompt, or the name of a passage of a fixed text.
        sample: index among the prompt's samples.
        token_ids: (T,) the tokens.
        token_texts: (T,) the text that each token adds.
        top_tokens: (T, k) texts of the alternatives.
        values: (T,) by column, from `backends/hf/divergence.py`; `top_*` (T, k).
    """
    count = len(token_ids)
    columns: dict[str, Any] = {
        "prompt_id": [storable(prompt_id)] * count,
        "sample": [sample] * count,
        "position": range(count),
        "token_id": token_ids,
        "token": [storable(text) for text in token_texts],
        "top_tokens": [[storable(text) for text in texts] for texts in top_tokens],
    }
    columns |= {name: values[name].tolist() for name in _NUMBERS}
    return pa.table({name: pa.array(columns[name], DRIFT.field(name).type) for name in DRIFT.names})


def write_drift(stored: StoredPoint, name: str, tables: Iterable[pa.Table]) -> None:
    """Write a table of drift as its rows come, each table a row group; it appears complete."""
    with (
        atomic_path(stored.path(f"{name}.parquet")) as scratch,
        pq.ParquetWriter(scratch, DRIFT, compression="zstd") as writer,
    ):
        for table in tables:
            writer.write_table(table)
