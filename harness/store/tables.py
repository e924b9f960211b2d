"""The tables of a point: their columns, and the records they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from harness.store.files import storable
from harness.store.records import PromptScores, Repetition, Sample

GENERATIONS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("sample", pa.int32()),
        ("prompt", pa.string()),
        ("output", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("seed", pa.int64()),
        ("mean_logprob", pa.float64()),
        ("sequence_score", pa.float64()),
    ]
)
"""Columns of a sample; `reference` and those of its metrics are added to them (`artifacts.metrics`)."""

TOKENS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("sample", pa.int32()),
        ("position", pa.int32()),
        ("token_id", pa.int64()),
        ("token", pa.string()),
        ("logprob", pa.float32()),
        ("warped_logprob", pa.float32()),
        ("rank", pa.int32()),
        ("entropy", pa.float32()),
        ("warped_entropy", pa.float32()),
        ("kept", pa.int32()),
        ("kept_mass", pa.float32()),
        ("top_ids", pa.list_(pa.int64())),
        ("top_tokens", pa.list_(pa.string())),
        ("top_logprobs", pa.list_(pa.float32())),
        ("top_warped_logprobs", pa.list_(pa.float32())),
    ]
)

PROMPT_TOKENS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("position", pa.int32()),
        ("token_id", pa.int64()),
        ("token", pa.string()),
        ("logprob", pa.float32()),
        ("rank", pa.int32()),
        ("entropy", pa.float32()),
    ]
)

TIMING = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("repeat", pa.int32()),
        ("batch_size", pa.int32()),
        ("ttft_ms", pa.float64()),
        ("decode_ms", pa.float64()),
        ("output_tokens", pa.int32()),
        ("itl_ms", pa.list_(pa.float64())),
    ]
)

TIMES = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("sample", pa.int32()),
        ("started", pa.float64()),
        ("first_token", pa.float64()),
        ("ended", pa.float64()),
        ("batch", pa.int32()),
    ]
)

_OF_SAMPLE = ("prompt_id", "sample", "position")


def generations_table(samples: Sequence[Sample]) -> pa.Table:
    """Return generations.parquet's rows, one a sample."""
    return pa.Table.from_pylist(
        [
            {
                "prompt_id": storable(s.prompt_id),
                "sample": s.sample,
                "prompt": storable(s.prompt),
                "output": storable(s.output),
                "finish_reason": s.finish_reason,
                "prompt_tokens": s.prompt_tokens,
                "output_tokens": s.output_tokens,
                "seed": s.seed,
                "mean_logprob": _mean_logprob(s),
                "sequence_score": s.sequence_score,
            }
            for s in samples
        ],
        schema=GENERATIONS,
    )


def _mean_logprob(sample: Sample) -> float | None:
    logprob = None if sample.steps is None else sample.steps.logprob
    return None if logprob is None or not len(logprob) else float(logprob.astype(np.float64).mean())


def tokens_table(samples: Sequence[Sample]) -> pa.Table:
    """Return tokens.parquet's rows, one a step; columns that a backend does not tell are null."""
    columns: dict[str, list[Any]] = {name: [] for name in TOKENS.names}
    for s in samples:
        if s.steps is None:
            continue
        length = len(s.steps)
        columns["prompt_id"] += [storable(s.prompt_id)] * length
        columns["sample"] += [s.sample] * length
        columns["position"] += range(length)
        for name in TOKENS.names:
            if name not in _OF_SAMPLE:
                columns[name] += _values(getattr(s.steps, name), length)
    return pa.table(columns, schema=TOKENS)


def _values(column: Any, length: int) -> list[Any]:
    """Return a column of Steps as a list: numbers, texts or lists of either; nulls where it is None."""
    if column is None:
        return [None] * length
    if isinstance(column, np.ndarray):
        return column.tolist()
    return [
        storable(entry) if isinstance(entry, str) else [storable(one) for one in entry] for entry in column
    ]


def times_table(samples: Sequence[Sample]) -> pa.Table:
    """Return times.parquet's rows, one a sample whose times were noted."""
    return pa.Table.from_pylist(
        [
            {"prompt_id": storable(s.prompt_id), "sample": s.sample, **vars(s.times)}
            for s in samples
            if s.times is not None
        ],
        schema=TIMES,
    )


def prompt_tokens_table(scores: Sequence[PromptScores]) -> pa.Table:
    """Return prompt_tokens.parquet's rows, one a prompt token."""
    rows = [
        {
            "prompt_id": storable(s.prompt_id),
            "position": position,
            "token_id": int(s.token_id[position]),
            "token": storable(s.token[position]),
            "logprob": float(s.logprob[position]),
            "rank": int(s.rank[position]),
            "entropy": float(s.entropy[position]),
        }
        for s in scores
        for position in range(len(s.token_id))
    ]
    return pa.Table.from_pylist(rows, schema=PROMPT_TOKENS)


def timing_table(repetitions: Sequence[Repetition]) -> pa.Table:
    """Return timing.parquet's rows, one a timed repetition."""
    return pa.Table.from_pylist(
        [{**vars(r), "prompt_id": storable(r.prompt_id), "itl_ms": list(r.itl_ms)} for r in repetitions],
        schema=TIMING,
    )


def repetitions_of(table: pa.Table) -> list[Repetition]:
    """Return the records of a timing table."""
    return [Repetition(**{**row, "itl_ms": tuple(row["itl_ms"])}) for row in table.to_pylist()]
