"""A sweep whose points drift from a reference, made up for tests of the view Quantization."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fake_points import HOSTILE, make_sweep

from harness.analysis.drift_summary import add_drift
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep
from harness.store.tables import DRIFT, drift_rows

QUANTIZATIONS = ("fp32", "bnb_int8", "bnb_nf4")
DECODINGS = ("greedy", "top_p", "temperature")


def drifting_sweep(
    outputs: Path, texts: Mapping[str, str | None] | None = None, kl_error: float = 0.0, **options: Any
) -> Sweep:
    """Three precisions of one model; KL of a step is 10^-5 at int8 and 0.01 at nf4, times (position + 1).

    Args:
        outputs: of the project.
        texts: as `make_sweep` has them.
        kl_error: of every step of nf4.
        options: of `make_sweep`.
    """
    more = {"texts": texts} if texts is not None else {}
    sweep = make_sweep(outputs, ("m",), QUANTIZATIONS, DECODINGS, **more, **options)
    by_choices = {
        (p.quantization, p.decoding): StoredPoint(outputs / "points" / p.point_id) for p in sweep.points
    }
    for (quantization, decoding), stored in by_choices.items():
        facts = stored.metrics()
        facts["metrics"] |= {
            "memory/weights_mb": {"fp32": 8.0, "bnb_int8": 4.0, "bnb_nf4": 2.0}[quantization]
        }
        if quantization == "fp32":
            stored.write_json("metrics.json", facts)
            continue
        reference = by_choices["fp32", decoding]
        scale, error = (1e-5, 0.0) if quantization == "bnb_int8" else (0.01, kl_error)
        _write(stored, reference, scale, error)
        add_drift(facts, stored)
        stored.write_json("metrics.json", facts)
    return sweep


def _write(stored: StoredPoint, reference: StoredPoint, scale: float, error: float) -> None:
    grouped: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in reference.rows("tokens"):
        grouped.setdefault((row["prompt_id"], row["sample"]), []).append(row)
    tables = [_table(*key, rows, scale, error) for key, rows in grouped.items()]
    stored.write_tables("drift", DRIFT, tables)
    facts = {"reference": reference.point_id, "kind": "top" if error else "hidden", "top_k": 2, "share": 1,
             "whole": True, "texts": len(grouped), "left_out": 0}  # fmt: skip
    stored.write_json("parts.json", {"drift": facts})


def _table(prompt_id: str, sample: int, rows: Sequence[Mapping[str, Any]], scale: float, error: float) -> Any:
    count = len(rows)
    logprob = np.array([row["logprob"] for row in rows])
    ids = np.array([[row["token_id"], 77] for row in rows])
    values = {
        "logprob": logprob,
        "drift_logprob": logprob - 0.001,
        "rank": np.array([row["rank"] for row in rows]),
        "drift_rank": np.array([row["rank"] + 1 for row in rows]),
        "same_top": np.array([position % 2 == 0 for position in range(count)]),
        "margin": np.full(count, 0.5),
        "kl": scale * (np.arange(count) + 1.0),
        "kl_error": np.full(count, error),
        "total_variation": np.full(count, 0.25),
        "entropy": np.full(count, 1.5),
        "drift_entropy": np.full(count, 1.25),
        "top_ids": ids,
        "top_logprobs": np.tile([math.log(0.5), math.log(0.25)], (count, 1)),
    }
    tokens = [row["token"] for row in rows]
    return drift_rows(
        prompt_id,
        sample,
        [row["token_id"] for row in rows],
        tokens,
        [[token, HOSTILE["script"]] for token in tokens],
        values,
    )
