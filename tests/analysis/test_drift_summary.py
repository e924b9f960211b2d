"""What drift comes to, on numbers worked out by hand, by numpy or by scipy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.drift_summary import (
    COLUMNS,
    Tokens,
    by_token,
    divergence_metrics,
    drift_metrics,
    first_difference,
    read_tokens,
    worst_rows,
)
from harness.analysis.ranks import kendall, spearman
from harness.store.drift_table import drift_rows, write_drift
from harness.store.stored_point import StoredPoint


def made_up(prompts: int, each: int, seed: int = 0) -> Tokens:
    luck = np.random.default_rng(seed)
    count = prompts * each
    logprob = -luck.exponential(1.0, count)
    return read_tokens(
        {
            "prompt_id": np.repeat([f"p{place}" for place in range(prompts)], each)[rows],
            "token_id": luck.integers(0, 30, count)[rows],
            "logprob": logprob[rows],
            "drift_logprob": (logprob - 0.1 * luck.random(count))[rows],
            "same_top": (luck.random(count) < 0.9)[rows],
            "margin": luck.random(count)[rows],
            "kl": luck.lognormal(-6, 2, count)[rows],
            "kl_error": np.zeros(count)[rows],
        }
        for rows in (slice(0, 7), slice(7, count))
    )


def test_the_figures_are_llama_cpps() -> None:
    kl = np.array([0.0, 0.1, 0.2, 0.7])
    tokens = Tokens(
        ("a", "b"), np.array([0, 0, 1, 1]), np.array([5, 6, 5, 7]), kl, np.zeros(4),
        np.log([0.5, 0.25, 0.8, 0.1]), np.log([0.4, 0.25, 0.9, 0.2]),
        np.array([True, True, False, False]), np.array([0.3, 0.2, 0.01, 0.06]),
    )  # fmt: skip
    metrics, intervals = drift_metrics(tokens)
    assert metrics["kl_mean"] == pytest.approx(0.25)
    assert metrics["kl_median"] == pytest.approx(0.15)
    assert metrics["kl_p90"] == pytest.approx(0.2 + 0.7 * 0.5)
    assert metrics["kl_max"] == 0.7
    assert metrics["same_top"] == 0.5
    assert metrics["same_top_clear"] == pytest.approx(2 / 3)
    assert metrics["rms_dp"] == pytest.approx(math.sqrt((0.01 + 0 + 0.01 + 0.01) / 4))
    # PPL(Q) / PPL(base): the ratio of two geometric means.
    ratio = (0.4 * 0.25 * 0.9 * 0.2) ** -0.25 / (0.5 * 0.25 * 0.8 * 0.1) ** -0.25
    assert metrics["perplexity_ratio"] == pytest.approx(ratio)
    assert metrics["ln_perplexity_ratio"] == pytest.approx(math.log(ratio))
    assert intervals == {}, "two prompts tell nothing of others"


def test_each_figure_has_an_interval_around_it() -> None:
    metrics, intervals = drift_metrics(made_up(12, 40))
    assert set(intervals) == set(metrics) - {"kl_error"}
    for name, (low, high) in intervals.items():
        assert low <= metrics[name] <= high, name
        assert low < high, name


def test_no_drift_has_no_width() -> None:
    tokens = made_up(6, 10)
    same = Tokens(
        **{**vars(tokens), "kl": np.zeros(60), "drift_logprob": tokens.logprob, "same_top": np.ones(60, bool)}
    )
    metrics, intervals = drift_metrics(same)
    assert metrics["kl_mean"] == metrics["kl_max"] == metrics["rms_dp"] == 0.0
    assert metrics["same_top"] == metrics["perplexity_ratio"] == 1.0
    assert {low == high for low, high in intervals.values()} == {True}


@pytest.mark.parametrize(
    ("one", "other", "step"),
    [
        ([1, 2, 3], [1, 2, 3], None),
        ([1, 2, 3], [1, 5, 3], 1),
        ([1, 2], [1, 2, 3], 2),
        ([], [], None),
        ([4], [5], 0),
    ],
)
def test_texts_part_where_their_tokens_differ(one: list[int], other: list[int], step: int | None) -> None:
    assert first_difference(one, other) == step


def test_the_median_parting_of_texts_that_may_never_part() -> None:
    assert divergence_metrics([3, None, 7]) == {"parted": 2 / 3, "first_divergence": 7.0}
    assert divergence_metrics([3, None, 7, 8]) == {"parted": 0.75, "first_divergence": 7.5}
    assert divergence_metrics([3, None]) == {"parted": 0.5}
    assert divergence_metrics([None]) == {"parted": 0.0}
    assert divergence_metrics([]) == {}


def test_the_tokens_that_suffer_most() -> None:
    tokens = Tokens(
        ("a",), np.zeros(4, int), np.array([5, 6, 5, 7]), np.array([1.0, 2.0, 2.0, 0.0]), np.zeros(4),
        np.zeros(4), np.zeros(4), np.ones(4, bool), np.ones(4),
    )  # fmt: skip
    assert by_token(tokens) == [
        {"token_id": 5, "count": 2, "kl_mean": 1.5, "share": 0.6},
        {"token_id": 6, "count": 1, "kl_mean": 2.0, "share": 0.4},
    ]


def test_the_worst_rows_stand_in_their_text(tmp_path: Path) -> None:
    stored = StoredPoint(tmp_path)
    kl = {"a": [0.1, 5.0, 0.0], "b": [4.0, 0.2]}

    def rows(name: str, values: list[float]) -> Any:
        count = len(values)
        zeros: dict[str, Any] = {column: np.zeros(count) for column in COLUMNS}
        zeros |= {n: np.zeros(count) for n in ("total_variation", "entropy", "drift_entropy")}
        zeros |= {"rank": np.ones(count, int), "drift_rank": np.ones(count, int), "kl": np.array(values)}
        zeros |= {"same_top": np.ones(count, bool), "top_ids": np.ones((count, 1), int)}
        zeros["top_logprobs"] = np.zeros((count, 1))
        return drift_rows(
            name, 0, list(range(count)), [f"{name}{i} " for i in range(count)], [["x"]] * count, zeros
        )

    write_drift(stored, "drift", (rows(name, values) for name, values in kl.items()))
    tokens = read_tokens(stored.batches("drift", COLUMNS))
    assert tokens.prompt_ids == ("a", "b")
    first, second, third = worst_rows(stored, "drift", tokens.kl, most=3)
    assert (first["before"], first["token"], first["after"]) == ("a0 ", "a1 ", "a2 ")
    assert (second["before"], second["token"], second["after"]) == ("", "b0 ", "b1 ")
    assert third["kl"] == 0.2


def test_rank_correlations_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    luck = np.random.default_rng(4)
    for _ in range(20):
        one, other = luck.integers(0, 5, 8).astype(float), luck.integers(0, 5, 8).astype(float)
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
        assert kendall(one, other) == pytest.approx(stats.kendalltau(one, other).statistic)
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert kendall([1, 1, 1], [1, 2, 3]) is None
