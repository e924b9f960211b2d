"""The catalogue of metrics: each key once, in sections, described in one line."""

from __future__ import annotations

from harness.analysis.metric_catalog import (
    HEADLINES,
    METRICS,
    Metric,
    in_order,
    metric_of,
    metrics_from_json,
    metrics_to_json,
)

SECTIONS = {
    "latency",
    "throughput",
    "probability",
    "text",
    "reference",
    "preference",
    "quality",
    "memory",
    "cost",
    "energy",
    "requests",
    "drift",
    "watermark",
    "speculation",
}


def test_every_metric_is_there_once() -> None:
    assert len({metric.key for metric in METRICS}) == len(METRICS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert {metric.key.partition("/")[0] for metric in METRICS} == SECTIONS
    columns = [metric.per_sample for metric in METRICS if metric.per_sample]
    assert len(set(columns)) == len(columns)
    assert all(metric.description and "\n" not in metric.description for metric in METRICS)


def test_directions() -> None:
    for metric in METRICS:
        section, _, name = metric.key.partition("/")
        if section in ("latency", "memory"):
            assert metric.better == "lower", metric.key
        elif section == "speculation":
            better = {"block": None, "draft_share": "lower", "differing": "lower"}.get(name, "higher")
            assert metric.better == better, metric.key
        elif section == "drift":
            better = "higher" if name.startswith("same_top") or name == "first_divergence" else "lower"
            assert metric.better == better, metric.key
        elif (
            section in ("throughput", "reference", "preference")
            or (section == "watermark" and not name.endswith("p_value"))
            or name.startswith("distinct")
            or name == "tokens_per_kwh"
            or name == "decode_tokens_per_s"
            or name == "valid"
        ):
            assert metric.better == "higher", metric.key
        elif section == "probability" or name in (
            "output_tokens",
            "words",
            "eos_share",
            "cut_share",
            "grammar_log_weight",
        ):
            assert metric.better is None, metric.key
        else:
            assert metric.better == "lower", f"{metric.key}: what is left is repetition"


def test_the_terminals_few() -> None:
    assert [metric.name for metric in HEADLINES] == [
        "TTFT", "ITL", "tok/s", "logprob", "dist-2", "rep-4", "tokens", "valid",
        "KGW found", "SynthID found", "Gumbel found",
    ]  # fmt: skip


def test_numbers_as_they_are_shown() -> None:
    assert metric_of("probability/mean_logprob").format(-1.23456) == "−1.235"
    assert metric_of("throughput/tokens_per_s").format(12345.6) == "12,346"
    assert metric_of("text/distinct_2").format(None) == "–"


def test_what_is_not_in_it() -> None:
    unknown = metric_of("drift/kl")
    assert (unknown.name, unknown.description, unknown.better) == ("kl", "drift/kl", None)
    custom = Metric("own/x", "x", "How x it is.", better="higher", per_sample="own_x")
    known = metrics_from_json({"own": metrics_to_json([custom])})
    assert metric_of("own/x", known) == custom
    assert metrics_from_json({}) == {}
    assert in_order(["own/x", "text/distinct_2", "drift/kl", "latency/itl_p50_ms"]) == [
        "latency/itl_p50_ms", "text/distinct_2", "drift/kl", "own/x",
    ]  # fmt: skip


def test_a_metrics_json_of_an_older_version_is_read() -> None:
    """Its keys of a custom metric are `says` and `place`; they are still written, as a contract."""
    entry = {"key": "own/x", "name": "x", "says": "How x it is.", "unit": "", "decimals": 3, "better": None,
             "per_sample": "own_x", "place": "tables"}  # fmt: skip
    (metric,) = metrics_from_json({"own": [entry]}).values()
    assert (metric.description, metric.visibility) == ("How x it is.", "tables")
    assert metrics_to_json([metric]) == [entry]
    renamed = {"description": entry["says"], "visibility": entry["place"]}
    renamed |= {key: value for key, value in entry.items() if key not in ("says", "place")}
    assert metrics_from_json({"own": [renamed]})["own/x"] == metric
