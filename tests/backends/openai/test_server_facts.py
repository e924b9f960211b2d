"""What servers say of themselves: versions and models for the address, prices, what providers take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scripted_server import ScriptedServer

from harness.backends.openai.client import Client, Connection
from harness.backends.openai.dialects import DIALECTS
from harness.backends.openai.server_facts import ServerFacts, ask_server
from harness.backends.openai.spending import Price
from harness.cli.main import main
from harness.config.hydra_app import one_point
from harness.plan.plan import make_plan


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Client]:
    made = Client(Connection(server.url, None, {}, 5.0, 0, 1))
    yield made
    made.close()


def facts(client: Client, dialect: str, model: str = "scripted") -> ServerFacts:
    return ask_server(client, DIALECTS[dialect], model)  # type: ignore[index]


def test_versions_and_models_are_part_of_the_address(server: ScriptedServer, client: Client) -> None:
    server.pages = {
        "/version": {"version": "0.32.0"},
        "/props": {"build_info": "b11549", "default_generation_settings": {"n_ctx": 1024}},
        "/api/version": {"version": "0.9"},
        "/api/tags": {"models": [{"name": "scripted:latest", "digest": "abc"}]},
        "/v1/internal/model/info": {"model_name": "scripted", "loader": "llama.cpp"},
    }
    meta = {"n_vocab": 9, "size": 7}
    server.models = ({"id": "scripted", "created": 1, "max_model_len": 512, "meta": meta},)
    shared = {"max_model_len": 512, **meta}
    assert facts(client, "vllm_server").address == {**shared, "version": "0.32.0"}
    llama = facts(client, "llama_cpp")
    assert (llama.address, llama.context_length, llama.vocab_size) == (
        {**shared, "version": "b11549"},
        1024,
        9,
    )
    server.models = ({"id": "scripted:latest"},)
    assert facts(client, "ollama").address == {"version": "0.9", "digest": "abc"}
    server.models = ()
    webui = facts(client, "text_generation_webui")
    assert webui.address == {"model_name": "scripted", "loader": "llama.cpp"}
    assert (webui.price, webui.context_length) == (None, None)


def test_a_precision_that_a_server_tells_is_said(server: ScriptedServer) -> None:
    words = [word for word in server.words("decoding=greedy") if word != "backend=openai"]
    point = one_point(["backend=llama_cpp", *words, "prompts.items=[once]"])

    def said() -> list[str]:
        return [line for line in make_plan([point], "x").jobs[0].warnings if "stored in" in line]

    server.pages = {"/props": {"build_info": "b1"}}
    server.models = ({"id": "scripted", "meta": {"ftype": "Q4_1"}},)
    assert said() == ["llama_cpp: its scripted is stored in Q4_1"]
    server.models = ({"id": "scripted", "meta": {"size": 7}},)
    assert said() == []


def test_addresses(server: ScriptedServer) -> None:
    server.models = ({"id": "scripted", "meta": {"size": 7}},)
    server.pages = {"/props": {"build_info": "b1"}}

    def address(*changes: str) -> str:
        words = [word for word in server.words("decoding=temperature", *changes) if word != "backend=openai"]
        point = one_point(["backend=llama_cpp", *words, "prompts.items=[once]"])
        return make_plan([point], "x").jobs[0].point_id

    first = address()
    same = ("backend.concurrency=9", "backend.timeout=3", "backend.max_retries=0", "timing=quick")
    assert {address(change) for change in same} == {first}
    others = {
        address(change)
        for change in (
            "decoding.temperature=0.5", "backend.extra_body={cache_prompt: true}", "generation.seed=3",
            "generation.max_new_tokens=9",
        )
    }  # fmt: skip
    server.pages = {"/props": {"build_info": "b2"}}
    others.add(address())
    assert len(others) == 5
    assert first not in others


def test_openrouter(server: ScriptedServer, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "hush")
    entry = {
        "id": "scripted", "canonical_slug": "scripted-1", "context_length": 4096,
        "pricing": {"prompt": "0.000001", "completion": "0.000002"},
        "supported_parameters": ["temperature", "top_p", "max_tokens", "seed", "stop"],
    }  # fmt: skip
    server.models = (entry,)
    words = [word for word in server.words("prompts.items=[once]") if word != "backend=openai"]
    assert main(["plan", "backend=openrouter", "decoding=top_p", *words, "backend.budget_usd=1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "no provider of scripted returns logprobs" in printed
    assert "1 request and at most 6 tokens, less than 0.001 USD" in printed
    assert main(["check", "backend=openrouter", "decoding=top_k", *words]) == 2
    assert "no provider of this model takes top_k; use decoding.top_k=null" in capsys.readouterr().err
    assert main(["decoding=top_p", *words, "backend=openrouter"]) == 0
    body = server.asked[-1][1]
    assert body["provider"] == {"require_parameters": True}
    assert not {"logprobs", "top_k", "min_p", "repetition_penalty"} & set(body), (
        "what would rule out providers"
    )
    assert (body["temperature"], body["top_p"]) == (1.0, 0.9)
    provider = "backend.extra_body={provider: {only: [mine]}}"
    assert main(["decoding=top_p", *words, "backend=openrouter", provider]) == 0
    assert server.asked[-1][1]["provider"] == {"require_parameters": True, "only": ["mine"]}


def test_prices() -> None:
    assert Price(1e-6, 2e-6, 0.5).of({"prompt_tokens": 10, "completion_tokens": 5}) == pytest.approx(0.50002)
    assert Price(1e-6, 2e-6).of({"prompt_tokens": 10}) is None
