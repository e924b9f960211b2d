"""The tables of a point: DESIGN.md's columns, from records to Arrow and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from harness.results.records import PromptScores, Repetition, Sample

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
"""Columns of a sample; `reference` and those of its metrics are added to them (`results/metrics`)."""

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

_STEP_COLUMNS = [
    "token_id",
    "logprob",
    "warped_logprob",
    "rank",
    "entropy",
    "warped_entropy",
    "kept",
    "kept_mass",
    "top_ids",
    "top_logprobs",
    "top_warped_logprobs",
]


@dataclass(frozen=True)
class Told:
    """A sample beside its texts.

    Attributes:
        sample: the record.
        prompt: the text as the model got it.
        prompt_tokens: how many tokens that is.
        output: the text made.
        pieces: (T,) what each token added to it.
        top_tokens: (T, k) the alternatives' texts.
    """

    sample: Sample
    prompt: str
    prompt_tokens: int
    output: str
    pieces: tuple[str, ...]
    top_tokens: tuple[tuple[str, ...], ...]


def generations_table(told: Sequence[Told]) -> pa.Table:
    """A row a sample."""
    return pa.Table.from_pylist(
        [
            {
                "prompt_id": _text(t.sample.prompt_id),
                "sample": t.sample.sample,
                "prompt": _text(t.prompt),
                "output": _text(t.output),
                "finish_reason": t.sample.finish_reason,
                "prompt_tokens": t.prompt_tokens,
                "output_tokens": len(t.sample.token_ids),
                "seed": t.sample.seed,
                "mean_logprob": float(t.sample.steps.logprob.astype(np.float64).mean()),
                "sequence_score": t.sample.sequence_score,
            }
            for t in told
        ],
        schema=GENERATIONS,
    )


def tokens_table(told: Sequence[Told]) -> pa.Table:
    """A row a step."""
    columns: dict[str, list] = {name: [] for name in TOKENS.names}
    for t in told:
        length = len(t.sample.steps)
        columns["prompt_id"] += [_text(t.sample.prompt_id)] * length
        columns["sample"] += [t.sample.sample] * length
        columns["position"] += range(length)
        columns["token"] += [_text(piece) for piece in t.pieces]
        columns["top_tokens"] += [[_text(token) for token in tops] for tops in t.top_tokens]
        for name in _STEP_COLUMNS:
            columns[name] += getattr(t.sample.steps, name).tolist()
    return pa.table(columns, schema=TOKENS)


def times_table(told: Sequence[Told]) -> pa.Table:
    """A row a sample whose times were noted."""
    return pa.Table.from_pylist(
        [
            {"prompt_id": _text(t.sample.prompt_id), "sample": t.sample.sample, **vars(t.sample.times)}
            for t in told
            if t.sample.times is not None
        ],
        schema=TIMES,
    )


def prompt_tokens_table(scores: Sequence[PromptScores], pieces: Mapping[str, Sequence[str]]) -> pa.Table:
    """A row a prompt token; `pieces` holds each prompt's token texts."""
    rows = [
        {
            "prompt_id": _text(s.prompt_id),
            "position": position,
            "token_id": int(s.token_id[position]),
            "token": _text(pieces[s.prompt_id][position]),
            "logprob": float(s.logprob[position]),
            "rank": int(s.rank[position]),
            "entropy": float(s.entropy[position]),
        }
        for s in scores
        for position in range(len(s.token_id))
    ]
    return pa.Table.from_pylist(rows, schema=PROMPT_TOKENS)


def timing_table(repetitions: Sequence[Repetition]) -> pa.Table:
    """A row a timed repetition."""
    return pa.Table.from_pylist(
        [{**vars(r), "prompt_id": _text(r.prompt_id), "itl_ms": list(r.itl_ms)} for r in repetitions],
        schema=TIMING,
    )


def repetitions_of(table: pa.Table) -> list[Repetition]:
    """The records of a timing table."""
    return [Repetition(**{**row, "itl_ms": tuple(row["itl_ms"])}) for row in table.to_pylist()]


def _text(text: str) -> str:
    """UTF-8 has no lone surrogates; they are stored as `?`."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text
