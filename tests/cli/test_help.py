"""`harness help`: what it finds, and that what it shows can be typed."""

import shlex

import pytest

from harness.analysis.metric_catalog import METRICS
from harness.cli.command_help import DETAILS
from harness.cli.main import COMMANDS


def test_help_is_short_and_lists_commands_and_choices(harness):
    for words in (["--help"], ["help"], ["-h"], ["decoding=greedy", "--help"]):
        done = harness(*words)
        assert done.status == 0
        for command in COMMANDS:
            assert f"\n  {command} " in done.out
        assert "top_p" in done.out
        assert "experiments    all_samplers, all_strategies, demo" in done.out
        assert "schema" not in done.out
        assert len(done.out.splitlines()) <= 50
        assert max(map(len, done.out.splitlines())) <= 110


@pytest.mark.parametrize(
    ("group", "expected"), [("decoding", "decoding.top_p"), ("generation", "generation.seed")]
)
def test_help_of_a_group_lists_its_keys(harness, group, expected):
    done = harness("help", group)
    assert expected in done.out


def test_help_of_experiments_says_what_they_are_for(harness):
    assert "A first look" in harness("help", "experiments").out


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "top_p",
            ["decoding=top_p ", "decoding.top_p ", "set by decoding=top_p", "conf/decoding/top_p.yaml"],
        ),
        ("decoding.top_p", ["decoding.top_p ", "a number above 0 and at most 1"]),
        ("decoding=top_p", ["decoding=top_p ", "sets do_sample: true, top_p: 0.9"]),
        ("decoding", ["decoding=top_p ", "decoding.top_p "]),
        ("chrf", ["reference/chrf ", "metric chrF: ", "higher is better"]),
        ("ITL", ["latency/itl_p50_ms ", "inter-token latency"]),
        ("itl", ["latency/itl_p50_ms "]),
        ("chrF", ["reference/chrf ", "in MLflow quality/chrf"]),
        ("quality/chrf", ["reference/chrf ", "in MLflow quality/chrf"]),
        ("kept mass", ["probability/kept_mass "]),
        ("eos/len", ["column of the table", "max_new_tokens"]),
        ("len", ["column of the table"]),
        ("eos", ["column of the table", "text/eos_share "]),
        ("peak", ["memory/peak_mb ", "decoded in"]),
        ("mbr", ["compare.select=[mbr] ", "highest mean chrF"]),
        ("compare.select", ["each best_of, ", "first_valid"]),
        ("answer_match", ["reference/answer_match ", "metric accuracy: "]),
        ("warped_logprob", ["column of tokens.parquet: log-probability of the token in"]),
        ("rank", ["column of tokens.parquet: 1 + how many", "column of drift.parquet: of the token under"]),
        ("cases", ["a list of override lists"]),
        ("max_length", ["no such key; use generation.max_new_tokens"]),
    ],
)
def test_help_finds_whatever_has_a_name(harness, name, lines):
    done = harness("help", name)
    assert (done.status, done.err) == (0, "")
    for line in lines:
        assert line in done.out
    assert max(map(len, done.out.splitlines())) <= 110


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_tells_of_it_alone(harness, command):
    for words in ([command, "--help"], [command, "x=y", "-h"], ["help", command]):
        done = harness(*words)
        assert (done.status, done.calls) == (0, [])
        assert done.out.startswith(f"harness {command}")
        assert f"\n  harness {command}" in done.out
        assert "Commands (" not in done.out


EXAMPLES = [
    line.strip() for text in DETAILS.values() for line in text.splitlines() if line.startswith("  harness ")
]


@pytest.mark.parametrize("line", [line for line in EXAMPLES if line.split()[1] in ("plan", "check", "help")])
def test_examples_are_commands_that_work(harness, line):
    done = harness(*shlex.split(line)[1:])
    assert (done.status, done.err) == (0, "")
    assert done.calls or done.out


@pytest.mark.thinned(3)
@pytest.mark.parametrize("first", [0, 1, 2])
def test_every_metric_is_found_by_its_key_and_as_it_is_displayed(harness, first):
    listed = harness("help", "metrics").out
    assert max(map(len, listed.splitlines())) <= 110
    for metric in METRICS:
        assert f"  {metric.key} " in listed
        assert f" {metric.name} " in listed
    for index, metric in enumerate(METRICS):
        for name in (metric.key, metric.name, metric.name.upper())[(index + first) % 3 :][:1]:
            done = harness("help", *name.split())
            assert (done.status, done.err) == (0, "")
            assert metric.key in done.out
