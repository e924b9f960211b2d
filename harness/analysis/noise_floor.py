"""The noise floor of a point: how far its numbers would move if the same strategy were run again.

Two things move them. Rounding: a model reads a text in a batch or by itself, with a cache or without one, by
other kernels, so that logprobs differ in their last digits (much earlier than that in 16 bits), and now and
then another token becomes the likeliest. And time: a machine is not equally fast twice. A difference between
points that is smaller may come from the machine, not from the strategies.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis.latency_differences import BY_REPETITION
from harness.analysis.metric_catalog import metric_of
from harness.analysis.metrics.probability import STEP_COLUMNS, no_steps, probability_metrics, step_sums
from harness.analysis.point_results import finite_numbers
from harness.store.records import Repetition

_SHOWN = 0.0005
"""Nats that are not zero in three decimals."""

Columns = Mapping[str, np.ndarray]
"""Columns of tokens.parquet along one output."""


@dataclass(frozen=True)
class Rounding:
    """How differently the same outputs are scored when they are read again, each by itself.

    Attributes:
        outputs, tokens: how many were read.
        largest, mean: absolute change of a token's logprob, nats.
        changed: how many of the tokens would not be chosen again under the same noise; None where that takes
            more than reading the output.
    """

    outputs: int
    tokens: int
    largest: float
    mean: float
    changed: int | None


def rounding(
    recorded: Sequence[Columns], again: Sequence[Columns], chosen: Sequence[np.ndarray | None]
) -> tuple[Rounding, dict[str, float]]:
    """Return how outputs differ from what was recorded of them, and the change of each metric of them.

    Args:
        recorded: of each output, the columns as they are stored, `token_id` and `logprob` among them.
        again: the same columns, from reading it by itself; NaN where a value is not known.
        chosen: (T,) the tokens that would be chosen there; None where that is not known.

    Raises:
        ValueError: there is no token.
    """
    before, after = (
        np.concatenate([one["logprob"] for one in outputs]).astype(np.float64)
        for outputs in (recorded, again)
    )
    # What is impossible both times, minus infinity, has not changed.
    changes = np.abs(np.subtract(after, before, out=np.zeros_like(before), where=after != before))
    flips = [
        None if tokens is None else int((tokens != old["token_id"]).sum())
        for old, tokens in zip(recorded, chosen, strict=True)
    ]
    changed = None if None in flips else sum(flip or 0 for flip in flips)
    metrics = metric_changes(recorded, again)
    return Rounding(
        len(recorded), len(changes), float(changes.max()), float(changes.mean()), changed
    ), metrics


def metric_changes(recorded: Sequence[Columns], again: Sequence[Columns]) -> dict[str, float]:
    """Return the absolute change of each probability metric over all tokens whose value is known in both."""
    sums = [no_steps(), no_steps()]
    for pair in zip(recorded, again, strict=True):
        old, new = pair
        shared = [name for name in STEP_COLUMNS if name in old and name in new]
        unknown = {name: np.isnan(old[name]) | np.isnan(new[name]) for name in shared}
        for total, one in zip(sums, pair, strict=True):
            total += step_sums({name: np.where(unknown[name], np.nan, one[name]) for name in unknown})
    before, after = map(probability_metrics, sums)
    found = {f"probability/{name}": abs(after[name] - value) for name, value in before.items()}
    return {key: change for key, change in found.items() if math.isfinite(change)}


def timing_noise(repetitions: Sequence[Repetition]) -> dict[str, float]:
    """Return how far each latency would typically move if it were measured again right away, in ms.

    Points are compared by the mean over prompts of the mean over repetitions. Measured twice in the same way,
    two such means differ by sqrt(2) times their standard error (root mean square), which follows from how
    much the repetitions of one prompt differ from each other. Empty where nothing was repeated.
    """
    found = {}
    for key, value_of in BY_REPETITION.items():
        by_prompt: dict[Any, list[float]] = defaultdict(list)
        for r in repetitions:
            if (value := value_of(r)) is not None:
                by_prompt[r.prompt_id, r.batch_size, r.output_tokens].append(value)
        degrees = sum(len(values) - 1 for values in by_prompt.values())
        if degrees:
            squares = sum(len(values) * float(np.var(values)) for values in by_prompt.values())
            inverse = sum(1 / len(values) for values in by_prompt.values()) / len(by_prompt) ** 2
            found[key] = math.sqrt(2 * squares / degrees * inverse)
    return found


def noise_line(records: Iterable[Any]) -> str | None:
    """Return in one line what noise.json of a sweep's points says; None where it shows in no number.

    Args:
        records: the files' contents; what is not such a record is passed over. Of several the largest counts.
    """
    known = [record for record in records if isinstance(record, dict)]
    parts = [text for text in (_rounding_text(known), _timing_text(known)) if text]
    return f"Run-to-run noise: {'; '.join(parts)}." if parts else None


def _rounding_text(records: Sequence[Mapping[str, Any]]) -> str:
    found = [finite_numbers(r["rounding"]) for r in records if isinstance(r.get("rounding"), dict)]
    largest = max((one.get("largest", 0.0) for one in found), default=0.0)
    mean = max((one.get("mean", 0.0) for one in found), default=0.0)
    told = [one for one in found if one.get("changed") is not None and one.get("tokens")]
    changed, tokens = (int(sum(one[name] for one in told)) for name in ("changed", "tokens"))
    text = ""
    if largest >= _SHOWN:
        text = f"in another batch logprobs change by {mean:.3f} nats on average, {largest:.3f} at most"
    if changed:
        also = ", and" if text else "in another batch"
        text += f"{also} {changed} of {tokens} tokens would be chosen otherwise"
    return text


def _timing_text(records: Sequence[Mapping[str, Any]]) -> str:
    floor: dict[str, float] = {}
    for record in records:
        changes = record.get("metrics")
        for key, change in finite_numbers(changes if isinstance(changes, dict) else {}).items():
            floor[key] = max(floor.get(key, 0.0), abs(change))
    shown = []
    for key in BY_REPETITION:
        metric = metric_of(key)
        if metric.visibility == "headline" and float(f"{floor.get(key, 0.0):.{metric.decimals}f}"):
            shown.append(f"{metric.name} {metric.format(floor[key])} {metric.unit}")
    return f"measured again, latencies move by about {', '.join(shown)}" if shown else ""
