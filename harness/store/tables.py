"""The tables of a point: their columns, and the records they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from harness.store.files import storable
from harness.store.records import PromptScores, Repetition, Sample

_COLUMNS_BY_TYPE = {
    pa.string(): (
        "prompt_id prompt output finish_reason token model provider fingerprint request_id reasoning error"
    ),
    pa.bool_(): "same_top",
    pa.int32(): (
        "sample position rank drift_rank kept prompt_tokens output_tokens repeat batch_size batch attempts"
        " chunks cached_tokens reasoning_tokens"
    ),
    pa.int64(): "token_id seed",
    pa.float32(): (
        "logprob drift_logprob warped_logprob entropy drift_entropy warped_entropy kept_mass margin"
        " sum_p2 logit_std vocab_mean_logprob allowed_logprob"
    ),
    pa.float64(): (
        "mean_logprob sequence_score sequence_logprob kl kl_error total_variation ttft_ms decode_ms started"
        " first_token ended sent cost_usd"
    ),
    pa.list_(pa.int64()): "top_ids",
    pa.list_(pa.string()): "top_tokens",
    pa.list_(pa.float32()): "top_logprobs top_warped_logprobs",
    pa.list_(pa.float64()): "itl_ms",
}
_TYPES = {name: kind for kind, names in _COLUMNS_BY_TYPE.items() for name in names.split()}


def _schema(names: str) -> pa.Schema:
    """Return the schema of a table; a column has the same type in every table."""
    return pa.schema([(name, _TYPES[name]) for name in names.split()])


GENERATIONS = _schema(
    "prompt_id sample prompt output finish_reason prompt_tokens output_tokens seed mean_logprob"
    " sequence_score sequence_logprob"
)
"""Columns of a sample; `reference`, `messages` and its metrics are added to them (`artifacts.metrics`)."""

TOKENS = _schema(
    "prompt_id sample position token_id token logprob warped_logprob rank entropy warped_entropy kept"
    " kept_mass sum_p2 logit_std vocab_mean_logprob allowed_logprob top_ids top_tokens top_logprobs"
    " top_warped_logprobs"
)
PROMPT_TOKENS = _schema("prompt_id position token_id token logprob rank entropy")
TIMING = _schema("prompt_id repeat batch_size ttft_ms decode_ms output_tokens itl_ms")
TIMES = _schema("prompt_id sample started first_token ended batch")

REQUESTS = _schema(
    "prompt_id sample attempts sent first_token ended chunks prompt_tokens output_tokens cached_tokens"
    " reasoning_tokens cost_usd model provider fingerprint request_id reasoning error"
)
"""What a server told about each sample (`records.Served`)."""

DRIFT = _schema(
    "prompt_id sample position token_id token logprob drift_logprob rank drift_rank same_top margin kl"
    " kl_error total_variation entropy drift_entropy top_ids top_tokens top_logprobs"
)
"""One row per token of a reference's samples, or of a fixed text: columns `drift_*` and `top_*` are of the
point, the others of the reference or of both."""

SCHEMAS = {
    "generations": GENERATIONS,
    "tokens": TOKENS,
    "prompt_tokens": PROMPT_TOKENS,
    "timing": TIMING,
    "times": TIMES,
    "requests": REQUESTS,
    "drift": DRIFT,
}
"""The tables of a point by name; what their columns mean is in `column_meanings.py`."""


def generations_table(samples: Iterable[Sample]) -> pa.Table:
    """Return generations.parquet's rows, one a sample."""
    return _table((vars(s) | {"mean_logprob": s.mean_logprob} for s in samples), GENERATIONS)


def times_table(samples: Iterable[Sample]) -> pa.Table:
    """Return times.parquet's rows, one a sample whose times were noted."""
    return _table((vars(s) | vars(s.times) for s in samples if s.times is not None), TIMES)


def requests_table(samples: Iterable[Sample]) -> pa.Table:
    """Return requests.parquet's rows, one a sample that a server answered."""
    return _table((vars(s) | vars(s.served) for s in samples if s.served is not None), REQUESTS)


def timing_table(repetitions: Iterable[Repetition]) -> pa.Table:
    """Return timing.parquet's rows, one a timed repetition."""
    return _table(map(vars, repetitions), TIMING)


def repetitions_of(table: pa.Table) -> list[Repetition]:
    """Return the records of a timing table."""
    return [Repetition(**{**row, "itl_ms": tuple(row["itl_ms"])}) for row in table.to_pylist()]


def tokens_table(samples: Iterable[Sample]) -> pa.Table:
    """Return tokens.parquet's rows, one a step; columns that a backend does not tell are null."""
    known = ((s, s.steps) for s in samples if s.steps is not None)
    return _token_table(((s.prompt_id, s.sample, len(steps), vars(steps)) for s, steps in known), TOKENS)


def prompt_tokens_table(scores: Iterable[PromptScores]) -> pa.Table:
    """Return prompt_tokens.parquet's rows, one a prompt token."""
    return _token_table(((s.prompt_id, None, len(s.token_id), vars(s)) for s in scores), PROMPT_TOKENS)


def drift_rows(
    prompt_id: str,
    sample: int,
    token_ids: Sequence[int],
    token_texts: Sequence[str],
    top_tokens: Sequence[Sequence[str]],
    values: Mapping[str, np.ndarray],
) -> pa.Table:
    """Return the rows of drift.parquet of one text.

    Args:
        prompt_id: the prompt, or the name of a passage of a fixed text.
        sample: index among the prompt's samples.
        token_ids: (T,) the tokens.
        token_texts: (T,) the text that each token adds.
        top_tokens: (T, k) texts of the alternatives.
        values: (T,) by column, from `backends/hf/divergence.py`; `top_*` (T, k).
    """
    columns = {
        **values,
        "token_id": np.asarray(token_ids, np.int64),
        "token": token_texts,
        "top_tokens": top_tokens,
    }
    return _token_table([(prompt_id, sample, len(token_ids), columns)], DRIFT)


def _table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return a table of rows that have its columns, and perhaps more."""
    chosen = ({name: _storable(row[name]) for name in schema.names} for row in rows)
    return pa.Table.from_pylist(list(chosen), schema=schema)


def _token_table(
    texts: Iterable[tuple[str, int | None, int, Mapping[str, Any]]], schema: pa.Schema
) -> pa.Table:
    """Return a table of a row a token; of each text its prompt, sample index, length and other columns."""
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for prompt_id, sample, length, values in texts:
        shared = {"prompt_id": [storable(prompt_id)] * length, "sample": [sample] * length}
        of_text = {**values, **shared, "position": range(length)}
        for name, column in columns.items():
            column += [None] * length if of_text[name] is None else _storable(of_text[name])
    return pa.table(columns, schema=schema)


def _storable(value: Any) -> Any:
    """Return a value, or a sequence of values, as Arrow can store it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [storable(one) if isinstance(one, str) else _storable(one) for one in value]
    return storable(value) if isinstance(value, str) else value
