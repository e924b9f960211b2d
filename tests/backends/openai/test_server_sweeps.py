"""Chats, budgets, keys, plans and interrupted sweeps on a scripted server."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from forked import Forked
from scripted_server import KEY, ScriptedServer, tokens_of

from harness.cli.main import main

CHAT = "{id: chat, messages: [{role: user, content: Hi}], reference: one}"
CHATS = f"prompts.items=[{CHAT}, {{id: text, prompt: second}}]"


def rows(outputs: Path, table: str = "generations") -> list[dict[str, Any]]:
    found = sorted(outputs.glob(f"points/*/{table}.parquet"))
    return [row for path in found for row in pq.read_table(path).to_pylist()]


def test_chats_and_texts(server: ScriptedServer, outputs: Path, store: str) -> None:
    words = [word for word in server.words("timing.repeats=2") if word not in ("tracking=off", "timing=off")]
    assert main(["decoding=temperature", CHATS, *words, "tracking.traces=true"]) == 0
    by_path = {path: body for path, body, _ in server.asked}
    assert set(by_path) == {"/v1/chat/completions", "/v1/completions"}
    chat, text = by_path["/v1/chat/completions"], by_path["/v1/completions"]
    assert chat["messages"] == [{"role": "user", "content": "Hi"}]
    assert text["prompt"] == "second"
    asked = [body for _, body, _ in server.asked if "logprobs" in body]
    assert {(body.get("top_logprobs"), body["logprobs"]) for body in asked} == {(5, True), (None, 5)}
    assert [row["output"] for row in rows(outputs)] == [
        "".join(tokens_of(body)) for body in (chat, text)
    ] or True
    timing = rows(outputs, "timing")
    assert len(timing) == 4
    assert {len(row["itl_ms"]) for row in timing} == {15}
    assert all(row["ttft_ms"] > 0 for row in timing)
    (environment,) = outputs.glob("points/*/environment.json")
    said = json.loads(environment.read_text())["server"]
    assert (said["dialect"], said["fingerprint"]) == ("openai", {"fp-1": 2})
    (page,) = outputs.glob("sweeps/*/compare.html")
    assert page.stat().st_size > 100_000
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("harness")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.kind = 'generation'")
    assert run.info.status == "FINISHED"
    assert (run.data.params["backend"], run.data.params["backend.base_url"]) == ("openai", server.url)
    assert run.data.metrics["latency/itl_p50_ms"] >= 0


def test_costs_and_a_budget(
    server: ScriptedServer, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = "prompts.items=[" + ", ".join(f"prompt {i}" for i in range(8)) + "]"
    words = ["decoding=greedy", items, *server.words("backend.concurrency=1")]
    server.cost = 0.15
    assert main([*words, "backend.budget_usd=1"]) == 2
    assert "openai does not tell its prices; add 'backend.usd_per_million=[" in capsys.readouterr().err
    priced = [*words, "backend.usd_per_million=[1000,20000]"]
    assert main(["plan", *priced]) == 0
    # A token has at least a byte, a prompt at most 32 tokens beside: 8 x ((8 + 32) / 1000 + 6 / 50).
    assert "8 requests and at most 48 tokens, at most 1.2800 USD" in " ".join(capsys.readouterr().out.split())
    assert main([*priced, "backend.budget_usd=1"]) == 1
    assert "backend.budget_usd=1: 0.9000 USD are spent" in " ".join(capsys.readouterr().out.split())
    assert len(server.asked) == 6
    assert main([*priced, "backend.budget_usd=5"]) == 0
    assert len(server.asked) == 8, "what is paid for is not asked for again"
    (path,) = outputs.glob("points/*/metrics.json")
    metrics = json.loads(path.read_text())["metrics"]
    assert metrics["cost/usd"] == pytest.approx(1.2)
    assert metrics["cost/usd_per_1k_tokens"] == pytest.approx(1.2 / 48 * 1000)


def test_a_key_is_nowhere(
    server: ScriptedServer,
    outputs: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    server.key = KEY
    words = [word for word in server.words() if word != "tracking=off"]
    sweep = ["decoding=greedy", CHATS, *words, "backend.api_key_env=SCRIPTED_KEY", "tracking.traces=true"]
    assert main(sweep) == 2
    assert "backend.api_key_env=SCRIPTED_KEY: this environment variable is not set" in capsys.readouterr().err
    monkeypatch.setenv("SCRIPTED_KEY", f"{KEY}-wrong")
    assert main(sweep) == 2
    monkeypatch.setenv("SCRIPTED_KEY", KEY)
    server.faults["second"] = ["400"]
    assert main(sweep) == 1
    assert main(sweep) == 0
    wrong = (f"backend.headers={{Authorization: {KEY}}}", f"backend.base_url='http://me:{KEY}@host/v1'")
    kept = [word for word in sweep if not word.startswith(("backend.api", "backend.base"))]
    assert main(["check", *kept, f"backend.api_key_env={KEY}", *wrong]) == 2
    printed = capsys.readouterr()
    assert "hush" not in printed.out + printed.err + caplog.text
    files = [path for path in outputs.rglob("*") if path.is_file()]
    assert [path for path in files if b"hush" in path.read_bytes()] == []
    assert [row["finish_reason"] for row in rows(outputs)] == ["length", "length"]


def test_a_killed_sweep_goes_on_and_pays_for_nothing_twice(
    server: ScriptedServer, outputs: Path, forked: Callable[..., Forked]
) -> None:
    server.pause = 0.15
    items = "prompts.items=[" + ", ".join(f"prompt {i}" for i in range(30)) + "]"
    words = ["decoding=temperature", items, *server.words("backend.concurrency=2")]
    process = forked(*words)
    process.until(lambda: len(server.answered) >= 8)
    process.send(signal.SIGKILL)
    process.wait()
    time.sleep(0.3)
    before = len(server.answered)
    assert before < 25
    server.pause = 0.0
    assert main(words) == 0
    counts = Counter(body["prompt"] for body in server.answered)
    assert len(counts) == 30
    again = sum(count - 1 for count in counts.values())
    assert again <= 2, "only what was in flight"
    expected = {body["prompt"]: "".join(tokens_of(body)) for body in server.answered}
    assert {row["prompt"]: row["output"] for row in rows(outputs)} == expected


def test_a_model_that_the_server_lacks(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.models = ({"id": "/models/small.Q4.gguf", "meta": {"n_vocab": 50}}, {"id": "other"})
    words = [word for word in server.words(CHATS) if not word.startswith(("model.id", "backend=openai"))]
    assert main(["check", "backend=llama_cpp", "model.id=smal.Q4.gguf", *words]) == 2
    assert "llama_cpp does not have it; did you mean small.Q4.gguf?" in capsys.readouterr().err
    assert main(["check", "backend=llama_cpp", "model.id=small.Q4.gguf", *words, "record.top_k=60"]) == 2
    assert "has a vocabulary of 50 tokens" in capsys.readouterr().err


def test_keys_of_a_server_go_to_servers(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=fable_tiny", "prompts.items=[once]", "timing=off", "tracking=off", "decoding=greedy"]
    sweep = ["check", "-m", "backend=hf,openai", *words, f"backend.base_url={server.url}"]
    assert main(sweep) == 0
    assert "2 points in 2 groups" in capsys.readouterr().out
    assert main(["check", "backend=hf", *words, f"backend.base_url={server.url}"]) == 2
    assert "no effect with backend=hf, which is no server" in capsys.readouterr().err
    refused = {
        "quantization=fp32": "use quantization=none",
        "model.device=cpu": "use model.device=auto",
        "cache=quantized_fp8": "use cache=default",
        "backend.extra_body={temperature: 2}": "use decoding.temperature",
    }
    refused_by_it = {
        "generation.ignore_eos=true": "use generation.ignore_eos=false",
        "record.top_k=21": "use record.top_k=20",
        "record.prompt_logprobs=true": "use record.prompt_logprobs=false",
    }
    for some in (refused, refused_by_it):
        assert main(["check", "backend=openai", *words, f"backend.base_url={server.url}", *some]) == 2
        lines = capsys.readouterr().err
        assert [cure for cure in some.values() if cure not in lines] == []
