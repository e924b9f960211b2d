"""Compute the metrics of a stored point from its tables: a part of it, for which no model is loaded.

Everything is read some rows at a time and written row group by row group; what is kept are numbers, so that
memory stays flat over many prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from harness.analysis.drift_summary import add_drift
from harness.analysis.metrics.bleu import bleu_counts, self_bleu
from harness.analysis.metrics.custom import Generated, Token
from harness.analysis.metrics.point_metrics import Measured, point_metrics
from harness.analysis.metrics.probability import STEP_COLUMNS, probability_metrics, step_sums
from harness.analysis.metrics.reference_metrics import chrf, exact_match, rouge_l
from harness.analysis.metrics.requested import RequestedMetrics
from harness.analysis.metrics.text_metrics import text_metrics
from harness.errors import HarnessError
from harness.store.files import atomic_path
from harness.store.stored_point import StoredPoint
from harness.store.tables import GENERATIONS, repetitions_of

_GENERATION_COLUMNS = (
    "prompt_id",
    "sample",
    "prompt",
    "output",
    "finish_reason",
    "output_tokens",
    "mean_logprob",
)


def add_metrics(
    stored: StoredPoint, asked: RequestedMetrics, on_sample: Callable[[], None] = lambda: None
) -> None:
    """Give a stored point its metrics: columns in generations.parquet, metrics.json, a line in parts.json.

    Args:
        stored: a point whose samples are whole.
        asked: the metrics that are asked for beside the built-in ones.
        on_sample: called once a sample.

    Raises:
        HarnessError: a metric of one's own fails; then nothing was changed.
        StoreError: the store cannot be written.
    """
    own = [metric.described() for metric in asked.own]
    measured = _measure(stored, asked, on_sample)
    parts = stored.parts()
    if parts.pop("metrics", None) is not None:
        # From here on the old ones do not count any more.
        stored.write_json("parts.json", parts)
    _write_columns(stored, measured, asked.references)
    timed = repetitions_of(stored.table("timing")) if "timing" in parts else []
    metrics = point_metrics(measured, timed, _of_the_run(stored, parts), own)
    add_drift(metrics, stored)
    stored.write_json("metrics.json", metrics)
    stored.write_json("parts.json", parts | {"metrics": asked.part(parts)})


@dataclass(frozen=True)
class _Text:
    """One stored sample: its row of generations.parquet, and its steps by column of tokens.parquet."""

    row: Mapping[str, Any]
    steps: Mapping[str, np.ndarray]


def _measure(stored: StoredPoint, asked: RequestedMetrics, on_sample: Callable[[], None]) -> Measured:
    measured = Measured()
    texts = _texts(stored, tokens=bool(asked.own))
    for prompt_id, group in groupby(texts, lambda text: str(text.row["prompt_id"])):
        samples = list(group)
        likeness = self_bleu([text.row["output"] for text in samples]) if len(samples) > 1 else None
        reference = asked.references.get(prompt_id)
        for place, text in enumerate(samples):
            sums = step_sums(text.steps)
            measured.steps += sums
            values = _of_text(text.row) | _of_steps(sums)
            if likeness is not None:
                values["self_bleu"] = likeness[place]
            if reference is not None:
                counts = bleu_counts(text.row["output"], reference)
                measured.bleu += counts
                values["sentence_bleu"] = counts.score(sentence=True)
                values |= _against(text.row["output"], reference)
            for metric in asked.own:
                values[metric.column] = metric.of(_generated(text, reference))
            measured.add(prompt_id, values)
            on_sample()
    return measured


def sample_values(row: Mapping[str, Any], steps: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The metrics that a sample has by itself, by column: from its row of the table and its steps."""
    return _of_text(row) | _of_steps(step_sums(steps))


def _of_text(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        "output_tokens": float(row["output_tokens"]),
        "mean_logprob": float(row["mean_logprob"]),
        "eos": float(row["finish_reason"] == "eos"),
        "cut": float(row["finish_reason"] == "length"),
        **text_metrics(row["output"]),
    }


def _of_steps(sums: np.ndarray) -> dict[str, float]:
    """Without `mean_logprob`, which the engine itself has written down."""
    return {name: value for name, value in probability_metrics(sums).items() if name != "mean_logprob"}


def _against(output: str, reference: str) -> dict[str, float]:
    return {
        "chrf": chrf(output, reference),
        "rouge_l": rouge_l(output, reference),
        "exact_match": exact_match(output, reference),
    }


def _generated(text: _Text, reference: str | None) -> Generated:
    row = text.row
    tokens = zip(*(text.steps[name].tolist() for name in Token._fields), strict=True)
    return Generated(
        prompt_id=row["prompt_id"],
        sample=int(row["sample"]),
        prompt=row["prompt"],
        output=row["output"],
        reference=reference,
        finish_reason=row["finish_reason"],
        tokens=tuple(map(Token._make, tokens)),
    )


def _of_the_run(stored: StoredPoint, parts: Mapping[str, Any]) -> dict[str, float]:
    """What was measured while the point was decoded."""
    facts = parts["facts"]
    metrics = {}
    if "replayed_from" not in facts:  # what was taken by replay was not decoded here
        metrics["throughput/sweep_tokens_per_s"] = facts["tokens"] / max(facts["decode_seconds"], 1e-9)
    model = stored.environment().get("model", {}) if stored.has("environment.json") else {}
    known = {
        "latency/load_seconds": model.get("load_seconds"),
        "memory/weights_mb": model.get("memory_footprint_mb"),
        "memory/cache_bytes_per_token": model.get("cache_bytes_per_token"),
        "memory/peak_mb": facts.get("peak_mb"),
    }
    return metrics | {name: value for name, value in known.items() if value is not None}


def _texts(stored: StoredPoint, tokens: bool) -> Iterator[_Text]:
    """The samples of a point with their steps, which stand in one order in both tables.

    Args:
        stored: the point.
        tokens: whether the steps hold the tokens themselves too.
    """
    columns = ("position", *(Token._fields if tokens else STEP_COLUMNS))
    steps = _Steps(columns, stored.batches("tokens", columns))
    for batch in stored.batches("generations", _GENERATION_COLUMNS):
        for place in range(len(batch["prompt_id"])):
            row = {name: column[place] for name, column in batch.items()}
            taken = steps.take(int(row["output_tokens"]))
            if not np.array_equal(taken["position"], np.arange(row["output_tokens"])):
                raise HarnessError(
                    f"{stored.folder}: generations.parquet and tokens.parquet do not belong together; "
                    "engine.fresh=true makes both anew"
                )
            yield _Text(row, taken)


class _Steps:
    """The rows of a table, taken from its batches as many at a time as are asked for."""

    def __init__(self, columns: Sequence[str], batches: Iterator[dict[str, np.ndarray]]) -> None:
        self._batches = batches
        self._rest = {name: np.empty(0) for name in columns}

    def take(self, count: int) -> dict[str, np.ndarray]:
        """The next rows; fewer where the table ends."""
        taken = self._cut(count)
        while (missing := count - len(taken["position"])) and (more := next(self._batches, None)) is not None:
            self._rest = more
            taken = {
                name: np.concatenate([taken[name], column]) for name, column in self._cut(missing).items()
            }
        return taken

    def _cut(self, count: int) -> dict[str, np.ndarray]:
        taken = {name: column[:count] for name, column in self._rest.items()}
        self._rest = {name: column[count:] for name, column in self._rest.items()}
        return taken


def _write_columns(stored: StoredPoint, measured: Measured, references: Mapping[str, str]) -> None:
    """Write generations.parquet with these columns instead of the metrics that it holds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = stored.path("generations.parquet")
    added = {name: values for name, values in measured.columns.items() if name not in GENERATIONS.names}
    with atomic_path(path) as scratch, pq.ParquetFile(path) as file:
        base = [field for field in file.schema_arrow if field.name in GENERATIONS.names]
        fields = [*base, *([pa.field("reference", pa.string())] if references else [])]
        fields += [pa.field(name, pa.float64()) for name in added]
        schema = pa.schema(fields)
        with pq.ParquetWriter(scratch, schema, compression="zstd") as writer:
            start = 0
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[field.name for field in base])
                columns = dict(zip(table.column_names, table.columns, strict=True))
                rows = slice(start, start := start + table.num_rows)
                if references:
                    columns["reference"] = pa.array(
                        [references.get(prompt) for prompt in columns["prompt_id"].to_pylist()], pa.string()
                    )
                for name, values in added.items():
                    # What a sample does not have is null, not NaN: NaN would not even equal itself.
                    finite = np.array(values[rows])
                    columns[name] = pa.array(np.where(np.isfinite(finite), finite, np.nan), from_pandas=True)
                writer.write_table(pa.table(columns, schema=schema))
