"""What drift comes to: a model of lower precision held against its reference, token by token.

Names and definitions are those of llama.cpp's `llama-perplexity --kl-divergence` (tools/perplexity/README.md
there) where it has them, so that figures can be held side by side: mean, median, 90%, 99% and maximum KL
divergence; RMS Δp of the correct token, which here is the token that the reference chose; same top p;
PPL(Q) / PPL(base) and its logarithm. All are over the tokens of the reference's own samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis.statistics.clusters import LEAST_UNITS, quantile_intervals, ratio_interval
from harness.store.files import finite_or_null
from harness.store.stored_point import StoredPoint

COLUMNS = ("prompt_id", "token_id", "logprob", "drift_logprob", "same_top", "margin", "kl", "kl_error")
CLEAR = 0.05
"""Where the reference's likeliest token leads by no more than this, a change of the top choice is a tie."""
QUANTILES = {"kl_median": 0.5, "kl_p90": 0.9, "kl_p99": 0.99}
WORST = 20
_BEFORE, _AFTER = 24, 8  # tokens of context around a worst one


@dataclass(frozen=True)
class Tokens:
    """The tokens of a table of drift: (N,) arrays, a few numbers a token.

    Attributes:
        prompt_ids: the prompts, in the table's order.
        prompt: index into them.
        token_id: what came.
        kl, kl_error: nats.
        logprob, drift_logprob: of the token, under the reference and under the point.
        same_top: whether the likeliest token is the same.
        margin: by how much the reference's likeliest token leads.
    """

    prompt_ids: tuple[str, ...]
    prompt: np.ndarray
    token_id: np.ndarray
    kl: np.ndarray
    kl_error: np.ndarray
    logprob: np.ndarray
    drift_logprob: np.ndarray
    same_top: np.ndarray
    margin: np.ndarray

    def __len__(self) -> int:
        return len(self.kl)


def read_tokens(batches: Iterable[Mapping[str, np.ndarray]]) -> Tokens:
    """The tokens of a table, given as some rows of COLUMNS at a time."""
    places: dict[str, int] = {}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
    for batch in batches:
        prompts = np.array([places.setdefault(p, len(places)) for p in batch["prompt_id"]], dtype=np.int32)
        for name in COLUMNS:
            parts[name].append(prompts if name == "prompt_id" else batch[name])
    found = {
        name: np.concatenate(some) if some else np.zeros(0, dtype=bool if name == "same_top" else float)
        for name, some in parts.items()
    }
    return Tokens(tuple(places), found.pop("prompt_id"), **found)


def drift_metrics(tokens: Tokens) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """The figures of drift, and 95% intervals over prompts of those that have one.

    Prompts are resampled, since the tokens of one hang together. Means (over all tokens of all prompts) have
    the studentised bootstrap (Efron & Tibshirani 1993, section 12.5), quantiles and the maximum the
    percentile bootstrap; a maximum's says how much hangs on single prompts, and never reaches beyond what was
    seen.

    Returns:
        `kl_mean`, `kl_median`, `kl_p90`, `kl_p99`, `kl_max`, `same_top`, `same_top_clear` (where the
        reference's likeliest token leads by more than 0.05), `rms_dp`, `perplexity_ratio`,
        `ln_perplexity_ratio`, `kl_error` (mean; 0 where distributions were kept whole).
    """
    if not len(tokens):
        return {}, {}
    kl = tokens.kl.astype(np.float64)
    logprob, own = tokens.logprob.astype(np.float64), tokens.drift_logprob.astype(np.float64)
    squares = (np.exp(own) - np.exp(logprob)) ** 2
    clear = tokens.margin > CLEAR
    metrics = {
        "kl_mean": float(kl.mean()),
        **{name: float(np.quantile(kl, q)) for name, q in QUANTILES.items()},
        "kl_max": float(kl.max()),
        "kl_error": float(tokens.kl_error.mean()),
        "same_top": float(tokens.same_top.mean()),
        "rms_dp": math.sqrt(float(squares.mean())),
        "ln_perplexity_ratio": float((logprob - own).mean()),
        "perplexity_ratio": math.exp(float((logprob - own).mean())),
    }
    if clear.any():
        metrics["same_top_clear"] = float(tokens.same_top[clear].mean())
    if len(tokens.prompt_ids) < LEAST_UNITS:
        return metrics, {}
    intervals: dict[str, tuple[float, float]] = {}
    for name, values, mask, (least, most), told in (
        ("kl_mean", kl, None, (0.0, math.inf), None),
        ("same_top", tokens.same_top, None, (0.0, 1.0), None),
        ("same_top_clear", tokens.same_top, clear, (0.0, 1.0), None),
        ("rms_dp", squares, None, (0.0, 1.0), math.sqrt),
        ("ln_perplexity_ratio", logprob - own, None, (-math.inf, math.inf), None),
    ):
        sums, counts = _by_prompt(tokens, values, mask)
        found = ratio_interval(sums, counts)
        if found is not None:
            low, high = (min(max(end, least), most) for end in found)
            intervals[name] = (told(low), told(high)) if told else (low, high)
    if "ln_perplexity_ratio" in intervals:
        low, high = intervals["ln_perplexity_ratio"]
        intervals["perplexity_ratio"] = (math.exp(low), math.exp(high))
    ends = quantile_intervals(kl, tokens.prompt, len(tokens.prompt_ids), [*QUANTILES.values(), 1.0])
    intervals |= dict(zip([*QUANTILES, "kl_max"], ends, strict=True))
    return metrics, intervals


def _by_prompt(tokens: Tokens, values: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(P,) sums of the values of each prompt, and how many they are."""
    weights = np.ones(len(tokens)) if mask is None else mask.astype(float)
    count = len(tokens.prompt_ids)
    sums = np.bincount(tokens.prompt, weights * values, minlength=count)
    return sums, np.bincount(tokens.prompt, weights, minlength=count)


def texts_of(stored: StoredPoint) -> Iterator[tuple[str, int, list[int]]]:
    """(prompt_id, sample, token ids) of each of a point's texts, in the order of its table."""
    current: tuple[str, int] | None = None
    ids: list[int] = []
    for batch in stored.batches("tokens", ("prompt_id", "sample", "token_id")):
        for prompt_id, sample, token in zip(*(column.tolist() for column in batch.values()), strict=True):
            if (prompt_id, sample) != current:
                if current is not None:
                    yield *current, ids
                current, ids = (prompt_id, sample), []
            ids.append(token)
    if current is not None:
        yield *current, ids


def first_difference(ids: Sequence[int], others: Sequence[int]) -> int | None:
    """The step at which two texts part, from 0; None when they are the same."""
    for step, (one, other) in enumerate(zip(ids, others, strict=False)):
        if one != other:
            return step
    return None if len(ids) == len(others) else min(len(ids), len(others))


def first_divergences(stored: StoredPoint, reference: StoredPoint) -> list[int | None]:
    """Of each text of a point the step at which it parts from the reference's own.

    Both were decoded by the same strategy under the same luck, so they part only where the distributions do.
    """
    ours = {(prompt, sample): ids for prompt, sample, ids in texts_of(stored)}
    return [
        first_difference(ours[prompt, sample], ids)
        for prompt, sample, ids in texts_of(reference)
        if (prompt, sample) in ours
    ]


def divergence_metrics(steps: Sequence[int | None]) -> dict[str, float]:
    """`parted`, the share of texts that part, and `first_divergence`, the median step at which they do.

    A text that never parts does so beyond all others; where half of them never do there is no median.
    """
    if not steps:
        return {}
    known = sorted(step for step in steps if step is not None)
    metrics = {"parted": len(known) / len(steps)}
    last = len(steps) // 2
    if last < len(known):
        middle = known[last] if len(steps) % 2 else (known[last - 1] + known[last]) / 2
        metrics["first_divergence"] = float(middle)
    return metrics


def by_token(tokens: Tokens, most: int = WORST) -> list[dict[str, Any]]:
    """The tokens that take the largest share of all divergence: `token_id`, `count`, `kl_mean`, `share`."""
    if not len(tokens):
        return []
    ids, place = np.unique(tokens.token_id, return_inverse=True)
    sums, counts = np.bincount(place, tokens.kl), np.bincount(place)
    whole = float(sums.sum())
    order = np.argsort(-sums, kind="stable")[:most]
    return [
        {
            "token_id": int(ids[i]),
            "count": int(counts[i]),
            "kl_mean": float(sums[i] / counts[i]),
            "share": float(sums[i] / whole),
        }
        for i in order
        if whole > 0 and sums[i] > 0
    ]


_SHOWN = (
    "prompt_id", "sample", "position", "token_id", "token", "kl", "logprob", "drift_logprob", "rank",
    "drift_rank", "top_tokens", "top_logprobs",
)  # fmt: skip


def worst_rows(stored: StoredPoint, name: str, kl: np.ndarray, most: int = WORST) -> list[dict[str, Any]]:
    """The rows with the largest divergence, worst first, with the text around them: `before`, `after`."""
    import pyarrow.parquet as pq

    finite = np.where(np.isfinite(kl), kl, 0.0)
    wanted = [int(i) for i in np.argsort(-finite, kind="stable")[:most] if finite[i] > 0]
    found: dict[int, dict[str, Any]] = {}
    around: dict[int, list[tuple[int, dict[str, Any]]]] = {i: [] for i in wanted}
    offset = 0
    with pq.ParquetFile(stored.path(f"{name}.parquet")) as file:
        for batch in file.iter_batches(columns=list(_SHOWN)):
            for i in wanted:
                low, high = max(i - _BEFORE, offset), min(i + _AFTER + 1, offset + batch.num_rows)
                if low < high:
                    rows = batch.slice(low - offset, high - low).to_pylist()
                    around[i] += list(zip(range(low, high), rows, strict=True))
            offset += batch.num_rows
    for i in wanted:
        rows = dict(around[i])
        own = rows[i]
        alike = {
            place: row["token"]
            for place, row in rows.items()
            if (row["prompt_id"], row["sample"]) == (own["prompt_id"], own["sample"])
        }
        found[i] = own | {
            "before": "".join(token for place, token in alike.items() if place < i),
            "after": "".join(token for place, token in alike.items() if place > i),
        }
    return [found[i] for i in wanted]


@dataclass(frozen=True)
class Described:
    """What drift adds to metrics.json, and drift.json.

    Attributes:
        metrics: `drift/...`.
        intervals: of some of them.
        by_prompt: mean KL by prompt id.
        facts: what drift.json holds: `reference`, how it was kept, `texts`, `first_divergence`, `by_token`,
            `worst`.
    """

    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    by_prompt: Mapping[str, float]
    facts: Mapping[str, Any]


def describe_drift(stored: StoredPoint) -> Described:
    """Everything that drift.parquet, drift_text.parquet and the two points' texts say; empty without them."""
    parts = stored.parts()
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    by_prompt: dict[str, float] = {}
    facts: dict[str, Any] = {}
    if "drift" in parts and stored.has("drift.parquet"):
        tokens = read_tokens(stored.batches("drift", COLUMNS))
        metrics, intervals = drift_metrics(tokens)
        sums, counts = _by_prompt(tokens, tokens.kl, None)
        by_prompt = dict(zip(tokens.prompt_ids, (sums / counts).tolist(), strict=True))
        facts = {
            **parts["drift"],
            "tokens": len(tokens),
            "by_token": by_token(tokens),
            "worst": worst_rows(stored, "drift", tokens.kl),
        }
        reference = StoredPoint(stored.folder.parent / parts["drift"]["reference"])
        if reference.has("tokens.parquet"):
            steps = first_divergences(stored, reference)
            metrics |= divergence_metrics(steps)
            facts["first_divergence"] = {
                "steps": sorted(step for step in steps if step is not None),
                "never": sum(step is None for step in steps),
            }
    if "drift_text" in parts:
        said = parts["drift_text"]
        metrics |= _text_metrics(said["score"])
        facts["text"] = {key: said[key] for key in ("text", "reference", "left_out")}
        if said["reference"] is not None and stored.has("drift_text.parquet"):
            tokens = read_tokens(stored.batches("drift_text", COLUMNS))
            of_text, ends = drift_metrics(tokens)
            metrics |= {f"text_{name}": value for name, value in of_text.items()}
            intervals |= {f"text_{name}": interval for name, interval in ends.items()}
            facts["text"]["worst"] = worst_rows(stored, "drift_text", tokens.kl)
            if said["score"].get("reference"):
                facts["text"]["reference_score"] = _text_metrics(said["score"]["reference"])
    return Described(
        {f"drift/{name}": value for name, value in metrics.items() if math.isfinite(value)},
        {f"drift/{name}": ends for name, ends in intervals.items() if all(map(math.isfinite, ends))},
        by_prompt,
        finite_or_null(facts),
    )


def add_drift(metrics: dict[str, Any], stored: StoredPoint) -> None:
    """Add to metrics.json what drift says, and write drift.json; nothing where a point has no drift."""
    found = describe_drift(stored)
    if not found.facts:
        return
    metrics["metrics"] |= found.metrics
    metrics["intervals"] |= {name: list(ends) for name, ends in found.intervals.items()}
    if found.by_prompt:
        per_prompt = metrics["per_prompt"]
        per_prompt["drift/kl_mean"] = [found.by_prompt.get(prompt) for prompt in per_prompt["prompt_id"]]
    stored.write_json("drift.json", found.facts)


def what_is_approximate(parts: Mapping[str, Any]) -> tuple[str, ...]:
    """What must be told of how a point's drift was found, one line each."""
    lines = []
    said = parts.get("drift", {})
    if said.get("left_out"):
        texts = said["texts"] + said["left_out"]
        lines.append(
            f"drift is told of {said['texts']} of {texts} texts; drift.budget_mb has no room for more"
        )
    if said.get("kind") == "top":
        lines.append(
            "drift: only the reference's likeliest tokens were kept; kl_error bounds what that changes"
        )
    if parts.get("drift_text", {}).get("left_out"):
        count = parts["drift_text"]["left_out"]
        lines.append(
            f"drift.text: {count} of its passages were left out; drift.budget_mb has no room for more"
        )
    return tuple(lines)


def _text_metrics(score: Mapping[str, Any]) -> dict[str, float]:
    """Perplexity a token, which compares models of one tokenizer, and bits a byte, which compares all."""
    return {
        "text_perplexity": math.exp(-score["logprob"] / score["tokens"]),
        "text_bits_per_byte": -score["logprob"] / math.log(2) / max(1, score["bytes"]),
    }
