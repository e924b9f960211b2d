"""The samples of a stored point as candidates, by prompt."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from harness.analysis.metrics.extracted_answer import AnswerPattern
from harness.analysis.selection.prompt_candidates import Candidates
from harness.store.stored_point import StoredPoint
from harness.store.token_table import numpy_of, read_blocks

_NUMBERS = ("mean_logprob", "output_tokens", "valid")


def read_candidates(
    stored: StoredPoint, pattern: AnswerPattern, selectors: Collection[str]
) -> list[tuple[str, Candidates]]:
    """Return each prompt's id and its samples, of which is read what these selectors need.

    Raises:
        HarnessError: the pattern takes too long.
    """
    known = [name for name in _NUMBERS if name in stored.schema("generations").names]
    table = stored.table("generations", ["prompt_id", "sample", "output", "finish_reason", *known])
    keys = list(zip(table["prompt_id"].to_pylist(), table["sample"].to_pylist(), strict=True))
    outputs = [output or "" for output in table["output"].to_pylist()]
    missing = np.full(len(keys), np.nan)
    numbers = {name: numpy_of(table[name].combine_chunks()).astype(np.float64) for name in known}
    mean = numbers.get("mean_logprob", missing)
    certainty = dict(_self_certainty(stored)) if "self_certainty" in selectors else {}
    valid = numbers.get("valid", missing)
    if "first_valid" in selectors and "valid" not in numbers and pattern.expression is not None:
        valid = np.array([float(pattern.match(output) is not None) for output in outputs])
    answers = [pattern.answer(output) for output in outputs] if "majority" in selectors else outputs
    cut_off = [finish == "error" for finish in table["finish_reason"].to_pylist()]
    rows_of: dict[str, list[int]] = {}
    for row in sorted(range(len(keys)), key=lambda row: keys[row][1]):
        rows_of.setdefault(keys[row][0], []).append(row)
    found = []
    for prompt_id in dict.fromkeys(prompt_id for prompt_id, _ in keys):
        whole = [row for row in rows_of[prompt_id] if not cut_off[row]]
        rows = np.array(whole or rows_of[prompt_id])
        found.append(
            (
                prompt_id,
                Candidates(
                    rows=rows,
                    outputs=tuple(outputs[row] for row in rows),
                    answers=tuple(answers[row] for row in rows),
                    mean_logprob=mean[rows],
                    sum_logprob=(mean * numbers.get("output_tokens", missing))[rows],
                    self_certainty=np.array([certainty.get(keys[row], np.nan) for row in rows]),
                    valid=valid[rows],
                ),
            )
        )
    return found


def _self_certainty(stored: StoredPoint) -> Iterator[tuple[tuple[str, int], float]]:
    """Yield each sample's key and its self-certainty, less the log of the vocabulary's size, a constant.

    It is the mean over steps of KL(U, p) = -mean_x log p(x) - log V (Kang et al. 2025, arXiv:2502.18581).
    """
    for block in read_blocks(stored, "tokens", ["vocab_mean_logprob"]):
        for steps in block:
            values = steps["vocab_mean_logprob"].astype(np.float64)
            values = values[np.isfinite(values)]
            if len(values):
                yield (steps.prompt_id, steps.sample), -float(values.mean())
