"""Sweeps on a server that fails in every way: nothing is lost, nothing asked twice, one line each."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from scripted_server import KEY, ScriptedServer, tokens_of

from harness.cli.main import main

ITEMS = "prompts.items=[{id: one, prompt: first}, {id: two, prompt: second}, {id: three, prompt: third}]"
SWEEP = ("-m", "decoding=greedy,temperature", "generation.samples=2", ITEMS)


def rows(outputs: Path, table: str = "generations") -> list[dict[str, Any]]:
    """The rows of a table of all points of the store."""
    found = sorted(outputs.glob(f"points/*/{table}.parquet"))
    return [row for path in found for row in pq.read_table(path).to_pylist()]


def bodies(server: ScriptedServer) -> Counter[str]:
    return Counter(json.dumps(body, sort_keys=True) for body in server.answered)


def test_a_sweep(server: ScriptedServer, outputs: Path) -> None:
    server.together = 3
    assert main([*SWEEP, *server.words()]) == 0
    assert len(server.asked) == 3 + 6, "greedy once, temperature twice a prompt"
    samples = rows(outputs)
    expected = {"".join(tokens_of(body)) for body in server.answered}
    assert {row["output"] for row in samples} == expected
    assert len(expected) == 9, "every sample has a seed of its own"
    assert {row["finish_reason"] for row in samples} == {"length"}
    assert {(row["prompt_tokens"], row["output_tokens"]) for row in samples} == {(3, 6)}
    tokens = rows(outputs, "tokens")
    assert len(tokens) == 9 * 6
    assert {(row["logprob"], row["rank"], row["token_id"]) for row in tokens} == {(-1.25, 2, 7)}
    assert {tuple(row["top_logprobs"]) for row in tokens} == {(-0.25, -1.25, -2.0)}
    for name in ("entropy", "warped_logprob", "kept", "kept_mass"):
        assert {row[name] for row in tokens} == {None}, name
    assert {row["chunks"] for row in rows(outputs, "requests")} == {2}
    assert not (outputs / "answers").exists(), "what is stored is kept once"
    assert main([*SWEEP, *server.words()]) == 0
    assert len(server.asked) == 9, "the same command again asks nothing"


def test_what_is_asked_again(server: ScriptedServer, outputs: Path) -> None:
    faults = {
        "429": ["429"], "429 0.01": ["429 0.01"], "500": ["500", "500"], "503": ["503"], "drop": ["drop"],
        "cut_first": ["cut_first"], "hang": ["hang"], "split": ["split"],
    }  # fmt: skip
    server.faults.update({name: list(some) for name, some in faults.items()})
    items = ", ".join(f"{{id: {name!r}, prompt: {name!r}}}" for name in faults)
    words = ["decoding=greedy", f"prompts.items=[{items}]", *server.words("backend.timeout=0.5")]
    assert main(words) == 0
    for row, served in zip(rows(outputs), rows(outputs, "requests"), strict=True):
        body = next(body for body in server.answered if body["prompt"] == row["prompt_id"])
        assert row["output"] == "".join(tokens_of(body))
        assert served["attempts"] == {"split": 1, "500": 3}.get(row["prompt_id"], 2), row["prompt_id"]
    assert max(bodies(server).values()) == 1, "nothing is answered twice"
    (path,) = outputs.glob("points/*/metrics.json")
    assert json.loads(path.read_text())["metrics"]["requests/retried"] == 8


def test_a_request_that_fails_loses_no_other(
    server: ScriptedServer, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults["second"] = ["400"]
    words = ["decoding=greedy", ITEMS, *server.words("backend.concurrency=1")]
    assert main(words) == 1
    assert f"{server.url} answered 400: said 400 with two lines" in capsys.readouterr().out
    assert len(server.asked) == 3
    assert rows(outputs) == []
    assert main(words) == 0
    assert len(server.asked) == 4, "what was answered before is not asked for again"
    assert len(rows(outputs)) == 3


def test_answers_that_are_cut_off(
    server: ScriptedServer, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = {
        "cut": "ended before its end", "error_event": "overloaded", "garbled": "no JSON",
        "filtered": "content_filter",
    }  # fmt: skip
    server.faults.update({name: [name] for name in faults})
    items = ", ".join(f"{{id: {name}, prompt: {name}}}" for name in ("whole", *faults))
    assert main(["decoding=greedy", f"prompts.items=[{items}]", *server.words()]) == 0
    assert len(server.asked) == 5, "they were paid for and are not asked for again"
    measured = ("distinct_2", "words", "mean_logprob", "perplexity", "eos", "cut")
    for row, served in zip(rows(outputs), rows(outputs, "requests"), strict=True):
        body = next(body for _, body, _ in server.asked if body["prompt"] == row["prompt_id"])
        if row["prompt_id"] == "whole":
            assert row["finish_reason"] == "length"
            assert None not in {row[name] for name in measured}
            continue
        assert row["finish_reason"] == "error"
        assert row["output"]
        assert "".join(tokens_of(body)).startswith(row["output"])
        assert {row[name] for name in measured} == {None}
        assert faults[row["prompt_id"]] in served["error"]
    assert "4 answers were cut off" in capsys.readouterr().out


def test_what_stops_the_sweep(
    server: ScriptedServer, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults["first"] = ["402"]
    assert main([*SWEEP, *server.words("backend.concurrency=1")]) == 1
    assert "answered 402, there is no credit left: said 402 with two lines" in capsys.readouterr().out
    assert len(server.asked) == 1
    server.loading = True
    assert main([*SWEEP, *server.words()]) == 2
    assert "answered 503: Loading model; try again once it is ready" in capsys.readouterr().err
    server.loading, server.key = False, KEY
    assert main([*SWEEP, *server.words()]) == 2
    refused = capsys.readouterr().err
    assert "answered 401, the key is not accepted: wrong key None; put its key into the variable" in refused
    server.__exit__()
    assert main([*SWEEP, *server.words()]) == 2
    assert "does not answer (" in capsys.readouterr().err
    assert main(["check", "decoding=typical", ITEMS, *server.words()]) == 2
    assert "openai has no typical_p and would ignore it" in capsys.readouterr().err


@pytest.mark.parametrize("style", ["bare", "legacy"])
def test_what_is_not_told_is_empty(server: ScriptedServer, outputs: Path, style: str) -> None:
    server.style, server.usage = style, False
    assert main(["decoding=greedy", ITEMS, *server.words("record.top_k=2")]) == 0
    samples, tokens = rows(outputs), rows(outputs, "tokens")
    assert {row["prompt_tokens"] for row in samples} == {None}
    if style == "bare":
        assert tokens == []
        assert {row["output_tokens"] for row in samples} == {row["mean_logprob"] for row in samples} == {None}
    else:
        assert {row["token_id"] for row in tokens} == {row["top_ids"] for row in tokens} == {None}
        assert {(row["rank"], row["logprob"], len(row["top_tokens"])) for row in tokens} == {(1, -0.5, 2)}
        assert "".join(row["token"] for row in tokens if row["prompt_id"] == "one") == samples[0]["output"]


def test_a_server_that_does_not_stream(server: ScriptedServer, outputs: Path) -> None:
    server.stream = False
    assert main(["decoding=greedy", ITEMS, *server.words("timing=quick", "timing.repeats=1")]) == 0
    expected = {body["prompt"]: "".join(tokens_of(body)) for body in server.answered[:3]}
    assert {row["prompt"]: row["output"] for row in rows(outputs)} == expected
    assert {row["ttft_ms"] for row in rows(outputs, "timing")} == {None}
