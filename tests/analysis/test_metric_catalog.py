"""The catalogue of metrics: each key once, in sections, told in one line."""

from __future__ import annotations

from harness.analysis.metric_catalog import (
    HEADLINES,
    METRICS,
    Metric,
    described,
    description,
    in_order,
    metric_of,
)

SECTIONS = {"latency", "throughput", "probability", "text", "reference", "memory", "drift"}


def test_every_metric_is_told_once() -> None:
    assert len({metric.key for metric in METRICS}) == len(METRICS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert {metric.key.partition("/")[0] for metric in METRICS} == SECTIONS
    columns = [metric.per_sample for metric in METRICS if metric.per_sample]
    assert len(set(columns)) == len(columns)
    assert all(metric.says and "\n" not in metric.says for metric in METRICS)


def test_directions() -> None:
    for metric in METRICS:
        section, _, name = metric.key.partition("/")
        if section in ("latency", "memory"):
            assert metric.better == "lower", metric.key
        elif section == "drift":
            better = "higher" if name.startswith("same_top") or name == "first_divergence" else "lower"
            assert metric.better == better, metric.key
        elif section in ("throughput", "reference") or name.startswith("distinct"):
            assert metric.better == "higher", metric.key
        elif section == "probability" or name in ("output_tokens", "words", "eos_share", "cut_share"):
            assert metric.better is None, metric.key
        else:
            assert metric.better == "lower", f"{metric.key}: what is left is repetition"


def test_the_terminals_few() -> None:
    assert [metric.name for metric in HEADLINES] == [
        "TTFT", "ITL", "tok/s", "logprob", "dist-2", "rep-4", "tokens",
    ]  # fmt: skip


def test_numbers_as_they_are_shown() -> None:
    assert metric_of("probability/mean_logprob").tell(-1.23456) == "−1.235"
    assert metric_of("throughput/tokens_per_s").tell(12345.6) == "12,346"
    assert metric_of("text/distinct_2").tell(None) == "–"


def test_what_is_not_in_it() -> None:
    unknown = metric_of("drift/kl")
    assert (unknown.name, unknown.says, unknown.better) == ("kl", "drift/kl", None)
    own = Metric("own/x", "x", "How x it is.", better="higher", per_sample="own_x")
    known = described({"own": description([own])})
    assert metric_of("own/x", known) == own
    assert described({}) == {}
    assert in_order(["own/x", "text/distinct_2", "drift/kl", "latency/itl_p50_ms"]) == [
        "latency/itl_p50_ms", "text/distinct_2", "drift/kl", "own/x",
    ]  # fmt: skip
