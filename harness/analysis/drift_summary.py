"""The metrics of drift: a model of lower precision compared with its reference, token by token.

Names and definitions are those of llama.cpp's `llama-perplexity --kl-divergence` (tools/perplexity/README.md
there) where it has them, so that numbers are comparable: mean, median, 90%, 99% and maximum KL divergence;
RMS Δp of the correct token, which here is the token that the reference chose; same top p; PPL(Q) / PPL(base)
and its logarithm. All are over the tokens of the reference's own samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis.first_divergence import divergence_metrics, first_divergences
from harness.analysis.statistics.clusters import (
    LEAST_CLUSTERS,
    quantile_intervals,
    ratio_residuals,
    residual_intervals,
)
from harness.store.files import finite_or_null
from harness.store.stored_point import StoredPoint
from harness.store.token_table import read_samples

CLEAR = 0.05
"""Where the reference's likeliest token leads by no more than this, a change of the top choice is a tie."""

QUANTILES = {"kl_median": 0.5, "kl_p90": 0.9, "kl_p99": 0.99}
WORST = 20

_BEFORE, _AFTER = 24, 8  # tokens of context around one of the worst
_COLUMNS = ("token_id", "kl", "kl_error", "logprob", "drift_logprob", "same_top", "margin")


@dataclass(frozen=True)
class TokenDrift:
    """The drift of the N tokens of a table: (N,) arrays.

    Attributes:
        prompt_ids, prompt: the prompts, in the table's order; index into them.
        kl, kl_error: nats.
        logprob, drift_logprob: of the token, under the reference and under the point.
        same_top: whether both have the same likeliest token.
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
        """Return N."""
        return len(self.kl)


def read_token_drift(stored: StoredPoint, table: str = "drift") -> TokenDrift:
    """Return the tokens of drift.parquet, or of another table of drift."""
    samples = list(read_samples(stored, table, _COLUMNS))
    indices = {prompt_id: i for i, prompt_id in enumerate(dict.fromkeys(one.prompt_id for one in samples))}
    lengths = np.array([len(one) for one in samples], int)
    prompt = np.repeat(np.array([indices[one.prompt_id] for one in samples], int), lengths)
    columns = {name: np.concatenate([one[name] for one in samples] or [np.zeros(0)]) for name in _COLUMNS}
    return TokenDrift(tuple(indices), prompt, **columns)


def drift_metrics(tokens: TokenDrift) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return the metrics of drift, and 95% intervals over prompts of those that have one.

    The tokens of a prompt are correlated, so prompts are resampled. Means (over all tokens of all prompts)
    have the interval of `mean_intervals`, quantiles and the maximum the percentile bootstrap; the maximum's
    says how much depends on single prompts, and never exceeds what was observed. `kl_error` is 0 where the
    reference's distributions are exact.
    """
    if not len(tokens):
        return {}, {}
    kl = tokens.kl.astype(np.float64)
    logprob, drift_logprob = tokens.logprob.astype(np.float64), tokens.drift_logprob.astype(np.float64)
    squares = (np.exp(drift_logprob) - np.exp(logprob)) ** 2
    clear = tokens.margin > CLEAR
    metrics = {
        "kl_mean": float(kl.mean()),
        **{name: float(np.quantile(kl, q)) for name, q in QUANTILES.items()},
        "kl_max": float(kl.max()),
        "kl_error": float(tokens.kl_error.mean()),
        "same_top": float(tokens.same_top.mean()),
        "rms_dp": math.sqrt(float(squares.mean())),
        "ln_perplexity_ratio": float((logprob - drift_logprob).mean()),
        "perplexity_ratio": math.exp(float((logprob - drift_logprob).mean())),
    }
    if clear.any():
        metrics["same_top_clear"] = float(tokens.same_top[clear].mean())
    if len(tokens.prompt_ids) < LEAST_CLUSTERS:
        return metrics, {}
    everything, same_top = np.ones(len(tokens), bool), tokens.same_top.astype(np.float64)
    intervals = _mean_intervals(
        tokens,
        {
            "kl_mean": (kl, everything, (0.0, math.inf)),
            "same_top": (same_top, everything, (0.0, 1.0)),
            "same_top_clear": (same_top, clear, (0.0, 1.0)),
            "rms_dp": (squares, everything, (0.0, 1.0)),
            "ln_perplexity_ratio": (logprob - drift_logprob, everything, (-math.inf, math.inf)),
        },
    )
    if "rms_dp" in intervals:
        low, high = intervals["rms_dp"]
        intervals["rms_dp"] = (math.sqrt(low), math.sqrt(high))
    if "ln_perplexity_ratio" in intervals:
        low, high = intervals["ln_perplexity_ratio"]
        intervals["perplexity_ratio"] = (math.exp(low), math.exp(high))
    ends = quantile_intervals(kl, tokens.prompt, len(tokens.prompt_ids), [*QUANTILES.values(), 1.0])
    return metrics, intervals | dict(zip([*QUANTILES, "kl_max"], ends, strict=True))


def _mean_intervals(
    tokens: TokenDrift, means: Mapping[str, tuple[np.ndarray, np.ndarray, tuple[float, float]]]
) -> dict[str, tuple[float, float]]:
    """Return the intervals of means over tokens, given as (values, mask, bounds), where there are any."""
    found = {}
    for name, (values, mask, bounds) in means.items():
        if np.isfinite(values[mask]).all():
            mean, residuals = ratio_residuals(values[mask], tokens.prompt[mask], len(tokens.prompt_ids))
            if len(residuals) >= LEAST_CLUSTERS:
                found[name] = (mean, residuals, bounds)
    intervals = zip(found, residual_intervals(list(found.values())), strict=True)
    return {name: interval for name, interval in intervals if interval is not None}


def kl_by_token(tokens: TokenDrift, most: int = WORST) -> list[dict[str, Any]]:
    """Return the tokens with the largest share of the total KL: `token_id`, `count`, `kl_mean`, `share`."""
    if not len(tokens):
        return []
    ids, index = np.unique(tokens.token_id, return_inverse=True)
    sums, counts = np.bincount(index, tokens.kl), np.bincount(index)
    total = float(sums.sum())
    return [
        {
            "token_id": int(ids[i]),
            "count": int(counts[i]),
            "kl_mean": float(sums[i] / counts[i]),
            "share": float(sums[i] / total),
        }
        for i in np.argsort(-sums, kind="stable")[:most]
        if total > 0 and sums[i] > 0
    ]


_SHOWN = (
    "prompt_id", "sample", "position", "token_id", "token", "kl", "logprob", "drift_logprob", "rank",
    "drift_rank", "top_tokens", "top_logprobs",
)  # fmt: skip


def worst_rows(stored: StoredPoint, table: str, kl: np.ndarray, most: int = WORST) -> list[dict[str, Any]]:
    """Return the rows with the largest KL, largest first, with the text around them: `before`, `after`."""
    from pyarrow import dataset

    known = np.where(np.isfinite(kl), kl, 0.0)
    worst = [int(i) for i in np.argsort(-known, kind="stable")[:most] if known[i] > 0]
    around = {i: range(max(0, i - _BEFORE), min(len(kl), i + _AFTER + 1)) for i in worst}
    indices = sorted({j for span in around.values() for j in span})
    taken = dataset.dataset(stored.path(f"{table}.parquet")).take(indices, columns=list(_SHOWN))
    rows = dict(zip(indices, taken.to_pylist(), strict=True))
    found = []
    for i, span in around.items():
        key = rows[i]["prompt_id"], rows[i]["sample"]
        tokens = {j: rows[j]["token"] for j in span if (rows[j]["prompt_id"], rows[j]["sample"]) == key}
        before = "".join(token for j, token in tokens.items() if j < i)
        after = "".join(token for j, token in tokens.items() if j > i)
        found.append(rows[i] | {"before": before, "after": after})
    return found


def add_drift(metrics: dict[str, Any], stored: StoredPoint) -> None:
    """Add a point's drift to its metrics.json, and write drift.json; nothing where it has no drift.

    Both are of drift.parquet, drift_text.parquet and the outputs of the point and its reference.
    """
    parts = stored.parts()
    found: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    facts: dict[str, Any] = {}
    if "drift" in parts and stored.has("drift.parquet"):
        tokens = read_token_drift(stored)
        found, intervals = drift_metrics(tokens)
        means = np.bincount(tokens.prompt, tokens.kl) / np.bincount(tokens.prompt)
        by_prompt = dict(zip(tokens.prompt_ids, means.tolist(), strict=True))
        if by_prompt:
            prompts = metrics["per_prompt"]["prompt_id"]
            metrics["per_prompt"]["drift/kl_mean"] = [by_prompt.get(prompt) for prompt in prompts]
        facts = {
            **parts["drift"],
            "tokens": len(tokens),
            "by_token": kl_by_token(tokens),
            "worst": worst_rows(stored, "drift", tokens.kl),
        }
        reference = StoredPoint(stored.folder.parent / parts["drift"]["reference"])
        if reference.has("tokens.parquet"):
            steps = first_divergences(stored, reference)
            found |= divergence_metrics(steps)
            facts["first_divergence"] = {
                "steps": sorted(step for step in steps if step is not None),
                "never": sum(step is None for step in steps),
            }
    if "drift_text" in parts:
        spec = parts["drift_text"]
        found |= _text_metrics(spec["score"])
        facts["text"] = {key: spec[key] for key in ("text", "reference", "left_out")}
        if spec["reference"] is not None and stored.has("drift_text.parquet"):
            tokens = read_token_drift(stored, "drift_text")
            text_metrics, text_intervals = drift_metrics(tokens)
            found |= {f"text_{name}": value for name, value in text_metrics.items()}
            intervals |= {f"text_{name}": interval for name, interval in text_intervals.items()}
            facts["text"]["worst"] = worst_rows(stored, "drift_text", tokens.kl)
            if spec["score"].get("reference"):
                facts["text"]["reference_score"] = _text_metrics(spec["score"]["reference"])
    if facts:
        metrics["metrics"] |= {
            f"drift/{name}": value for name, value in found.items() if math.isfinite(value)
        }
        metrics["intervals"] |= {
            f"drift/{name}": list(ends) for name, ends in intervals.items() if all(map(math.isfinite, ends))
        }
        stored.write_json("drift.json", finite_or_null(facts))


def drift_warnings(parts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what is incomplete or approximate about a point's drift, one line each, from its parts.json."""
    lines = []
    spec, left_out = parts.get("drift", {}), parts.get("drift_text", {}).get("left_out")
    if spec.get("left_out"):
        outputs = f"{spec['texts']} of {spec['texts'] + spec['left_out']} outputs"
        lines.append(f"drift covers {outputs}; drift.budget_mb has no room for more")
    if spec.get("kind") == "top":
        stored = "only the reference's likeliest tokens were stored"
        lines.append(f"drift: {stored}; kl_error bounds what that changes")
    if left_out:
        passages = f"{left_out} of its passages were left out"
        lines.append(f"drift.text: {passages}; drift.budget_mb has no room for more")
    return tuple(lines)


def _text_metrics(score: Mapping[str, Any]) -> dict[str, float]:
    """Return perplexity per token, which compares models of one tokenizer, and bits per byte, of any."""
    return {
        "text_perplexity": math.exp(-score["logprob"] / score["tokens"]),
        "text_bits_per_byte": -score["logprob"] / math.log(2) / max(1, score["bytes"]),
    }
