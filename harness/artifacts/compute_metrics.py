"""Compute the metrics of a stored point from its tables; no model is loaded for it.

Tables are read and written some rows at a time, and only numbers stay in memory, so that it stays flat over
many prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.analysis.drift_summary import add_drift
from harness.analysis.metrics.bleu import bleu_counts, bleu_score, self_bleu
from harness.analysis.metrics.custom import Generated, Token
from harness.analysis.metrics.point_metrics import SampleMetrics, point_metrics
from harness.analysis.metrics.probability import STEP_COLUMNS, probability_metrics, step_sums
from harness.analysis.metrics.reference_metrics import chrf, exact_match, rouge_l
from harness.analysis.metrics.requested import RequestedMetrics
from harness.analysis.metrics.structure_metrics import is_valid, log_weight
from harness.analysis.metrics.text_metrics import text_metrics
from harness.analysis.metrics.watermark_scores import watermark_scores
from harness.analysis.model_cost import cost_metrics, energy_per_token
from harness.analysis.stored_speculation import speculation_metrics
from harness.errors import HarnessError
from harness.store.files import finite_or_null
from harness.store.parquet_files import write_parquet
from harness.store.stored_point import StoredPoint
from harness.store.tables import GENERATIONS, repetitions_of
from harness.store.token_table import TokenColumns, read_samples

if TYPE_CHECKING:
    import pyarrow as pa

_GENERATION_COLUMNS = [
    "prompt_id", "sample", "prompt", "output", "finish_reason", "output_tokens", "mean_logprob"
]  # fmt: skip
_ROWS_AT_ONCE = 1024
_SAMPLES = "generations.parquet"


def add_metrics(
    stored: StoredPoint,
    requested: RequestedMetrics,
    on_sample: Callable[[], None] = lambda: None,
    files: Sequence[str] = (),
) -> None:
    """Add metrics to a stored point: columns in generations.parquet, metrics.json, an entry in parts.json.

    `on_sample` is called once a sample; `files` are those that are sealed beside generations.parquet.

    Raises:
        HarnessError: a custom metric fails; then nothing was changed.
        StoreError: the store cannot be written.
    """
    custom = [metric.described() for metric in requested.custom]
    samples = _sample_metrics(stored, requested, on_sample)
    parts = stored.parts()
    parts.pop("metrics", None)
    # From here on the old ones do not count any more, and the table of samples has no seal.
    stored.write_parts(parts, unsealed=[_SAMPLES, *files])
    _write_columns(stored, samples, requested.prompt_columns())
    timed = repetitions_of(stored.table("timing")) if "timing" in parts else []
    metrics = point_metrics(samples, timed, _run_metrics(stored, parts), custom)
    add_drift(metrics, stored)
    metrics["metrics"] |= speculation_metrics(stored)
    if "cost" in parts:
        metrics["metrics"] |= cost_metrics(stored.cost())
    # A number that is not finite is one that the point does not have.
    metrics["metrics"] = {key: value for key, value in metrics["metrics"].items() if math.isfinite(value)}
    metrics["intervals"] = {
        key: ends for key, ends in metrics["intervals"].items() if all(map(math.isfinite, ends))
    }
    stored.write_json("metrics.json", finite_or_null(metrics))
    stored.write_parts(parts | {"metrics": requested.spec(parts)}, sealed=[_SAMPLES, *files])


def sample_values(row: Mapping[str, Any], sums: np.ndarray) -> dict[str, float]:
    """Return the metrics that a sample has by itself, by column; without those that are not known.

    They are made of its row of generations.parquet, and of `step_sums` of its steps.
    """
    finish = row["finish_reason"]
    columns = {
        "output_tokens": row["output_tokens"],
        "mean_logprob": row["mean_logprob"],
        "eos": None if finish in (None, "stop") else finish == "eos",
        "cut": None if finish is None else finish == "length",
    }
    values = {name: float(value) for name, value in columns.items() if value is not None}
    values |= text_metrics(row["output"])
    return values | {name: v for name, v in probability_metrics(sums).items() if name != "mean_logprob"}


def _sample_metrics(
    stored: StoredPoint, requested: RequestedMetrics, on_sample: Callable[[], None]
) -> SampleMetrics:
    found = SampleMetrics()
    structure = requested.structure
    own = (*(Token._fields if requested.custom else ()), *(("allowed_logprob",) if structure else ()))
    own += ("token_id",) if requested.detectors else ()
    columns = ("position", *dict.fromkeys((*STEP_COLUMNS, *own)))
    for prompt_id, group in groupby(_samples(stored, columns), lambda sample: str(sample[0]["prompt_id"])):
        samples = list(group)
        whole = [row["output"] for row, _ in samples if row["finish_reason"] != "error"]
        similarities = iter(self_bleu(whole) if len(whole) > 1 else ())
        reference = requested.references.get(prompt_id)
        for row, steps in samples:
            if row["finish_reason"] == "error":  # what an answer that was cut off is like is not known
                found.add(prompt_id, {})
                on_sample()
                continue
            sums = step_sums(steps)
            found.steps += sums
            values = sample_values(row, sums)
            if len(whole) > 1:
                values["self_bleu"] = next(similarities)
            if reference is not None:
                counts = bleu_counts(row["output"], reference)
                found.bleu += counts
                values["sentence_bleu"] = bleu_score(counts, sentence=True)
                values["chrf"] = chrf(row["output"], reference)
                values["rouge_l"] = rouge_l(row["output"], reference)
                values["exact_match"] = exact_match(row["output"], reference)
                if requested.answers is not None:
                    answer = requested.answers.answer
                    values["answer_match"] = float(answer(row["output"]) == answer(reference))
            if structure is not None:
                values["valid"] = is_valid(row["output"], structure)
                values["grammar_log_weight"] = log_weight(steps)
            for detector in requested.detectors if "token_id" in steps else ():
                values |= watermark_scores(detector, steps["token_id"].tolist())
            for metric in requested.custom:
                values[metric.column] = metric.of(_generated(row, steps, reference))
            found.add(prompt_id, values)
            on_sample()
    return found


def _generated(row: Mapping[str, Any], steps: Mapping[str, np.ndarray], reference: str | None) -> Generated:
    names = Token._fields if steps else ()
    # Only NaN differs from itself.
    columns = ([None if value != value else value for value in steps[name].tolist()] for name in names)
    return Generated(
        prompt_id=row["prompt_id"],
        sample=int(row["sample"]),
        prompt=row["prompt"],
        output=row["output"],
        reference=reference,
        finish_reason=row["finish_reason"],
        tokens=tuple(map(Token._make, zip(*columns, strict=True))),
    )


def _run_metrics(stored: StoredPoint, parts: Mapping[str, Any]) -> dict[str, float]:
    """What was measured while the point was decoded."""
    facts = parts["facts"]
    metrics = {}
    # A point of an older store may have been taken from another point by replay: it was not decoded here.
    if "replayed_from" not in facts and None not in (facts["tokens"], facts["decode_seconds"]):
        metrics["throughput/sweep_tokens_per_s"] = facts["tokens"] / max(facts["decode_seconds"], 1e-9)
        metrics |= energy_per_token(facts)
    model = stored.environment().get("model", {}) if stored.has("environment.json") else {}
    known = {
        "latency/load_seconds": model.get("load_seconds"),
        "memory/weights_mb": model.get("memory_footprint_mb"),
        "memory/cache_bytes_per_token": model.get("cache_bytes_per_token"),
        "memory/peak_mb": facts.get("peak_mb"),
    }
    metrics |= {name: value for name, value in known.items() if value is not None}
    return metrics | (_request_metrics(stored) if stored.has("requests.parquet") else {})


def _request_metrics(stored: StoredPoint) -> dict[str, float]:
    """What a server's answers cost; a sum is known only where each of its parts is."""
    columns = stored.columns("requests", ["attempts", "cost_usd", "output_tokens", "error"])
    metrics = {
        "requests/retried": float(sum(columns["attempts"]) - len(columns["attempts"])),
        "requests/cut_off": float(sum(error is not None for error in columns["error"])),
    }
    costs, tokens = columns["cost_usd"], columns["output_tokens"]
    if costs and None not in costs:
        metrics["cost/usd"] = math.fsum(costs)
        if None not in tokens and sum(tokens):
            metrics["cost/usd_per_1k_tokens"] = 1e3 * math.fsum(costs) / sum(tokens)
    return metrics


def _samples(
    stored: StoredPoint, columns: tuple[str, ...]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]:
    """Yield each sample's row and its steps by column; both tables have the samples in the same order.

    Steps that the backend does not report are an empty mapping.
    """
    mismatch = HarnessError(
        f"{stored.folder}: generations.parquet and tokens.parquet do not belong together; "
        "engine.fresh=true generates both again"
    )
    steps = read_samples(stored, "tokens", columns)
    following = next(steps, None)
    for rows in stored.row_batches("generations", _ROWS_AT_ONCE, _GENERATION_COLUMNS):
        for row in rows:
            sample, key = None, (row["prompt_id"], row["sample"])
            if following is not None and key == (following.prompt_id, following.sample):
                sample, following = following, next(steps, None)
            if not _belong_together(row, sample):
                raise mismatch
            yield row, {} if sample is None else sample.columns
    if following is not None:
        raise mismatch


def _belong_together(row: Mapping[str, Any], steps: TokenColumns | None) -> bool:
    """Return whether these are all steps of a sample, in order; or none, of which nothing is known."""
    count = row["output_tokens"]
    if steps is None:
        return not count or row["mean_logprob"] is None
    return count in (None, len(steps)) and np.array_equal(steps["position"], np.arange(len(steps)))


def _write_columns(
    stored: StoredPoint, samples: SampleMetrics, of_prompts: Mapping[str, Mapping[str, str]]
) -> None:
    """Write generations.parquet with these metrics as columns, in place of those it has.

    `of_prompts` are texts by column and prompt id.
    """
    import pyarrow as pa

    path = stored.path(_SAMPLES)
    added = {name: values for name, values in samples.columns.items() if name not in GENERATIONS.names}
    fields = [field for field in stored.schema("generations") if field.name in GENERATIONS.names]
    base = [field.name for field in fields]
    fields += [pa.field(name, pa.string()) for name in of_prompts]
    fields += [pa.field(name, pa.float64()) for name in added]

    def tables() -> Iterator[pa.Table]:
        start = 0
        for table in stored.row_groups("generations", base):
            rows = slice(start, start := start + table.num_rows)
            for name, of_prompt in of_prompts.items():
                texts = [of_prompt.get(prompt) for prompt in table["prompt_id"].to_pylist()]
                table = table.append_column(name, pa.array(texts, pa.string()))
            for name, values in added.items():
                # A value that a sample does not have is null, not NaN, which is not even equal to itself.
                numbers = np.array(values[rows])
                table = table.append_column(name, pa.array(numbers, mask=~np.isfinite(numbers)))
            yield table

    write_parquet(path, pa.schema(fields), tables(), stored.point_id)
