"""Probes on servers that are known: what acts there, and what is ignored without a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from scripted_server import ScriptedServer

from harness.backends.openai.client import RequestError
from harness.backends.openai.dialects import TEXT_GENERATION_WEBUI
from harness.backends.openai.probes import RAW, Finding, Verdict, _repeats, probe
from harness.backends.openai.requests import RequestFormat
from harness.backends.openai.server_answer import Answer, Entry, Step
from harness.cli import server_doctor
from harness.cli.main import main

ALONE = {"top_k": 1, "top_p": 1e-6, "min_p": 1.0}


def served(acting: set[str], *, warped: bool = False, strict: bool = False, spread: float = 1.0) -> Any:
    """A server on which only some keys act; its text tells what it was made of."""

    def ask(body: Mapping[str, Any]) -> Answer:
        if strict and "frobnicate" in body:
            raise RequestError("answered 422: unknown key")
        told = [body["prompt"]]
        penalties = ("repetition_penalty", "presence_penalty", "frequency_penalty")
        told += [f"{name} {body[name]}" for name in penalties if name in acting]
        sampled = body["do_sample"] and "temperature" in acting
        if sampled and not any(name in acting and body[name] == value for name, value in ALONE.items()):
            told.append(f"seed {body['seed'] if 'seed' in acting else ''}")
            told += [f"{name} {body[name]}" for name in ("typical_p", "tfs") if name in acting]
        answer = Answer(" ".join(told), "length", 0.0, 1.0, chunks=(0.1,))
        if "logprobs" not in body:
            return answer
        # The likeliest is all but certain, so that its own logprob hardly shows the temperature.
        by = body["temperature"] if warped else 1.0
        top = tuple(Entry(f"t{i}", -0.001 - spread * i / by) for i in range(body["logprobs"]))
        return replace(answer, steps=(Step(top[0], top),))

    return ask


def found(acting: set[str], **how: Any) -> dict[str, str]:
    request_format = RequestFormat(TEXT_GENERATION_WEBUI, "m", {}, True)
    return {one.what: one.verdict for one in probe(request_format, "p", served(acting, **how))}


def test_what_acts_is_found() -> None:
    everything = {"temperature", "seed", *ALONE, "typical_p", "tfs", "repetition_penalty"}
    verdicts = found(everything)
    for name in everything - {"temperature", "seed"}:
        assert verdicts[f"decoding.{name}"] == "yes", name
    for name in ("epsilon_cutoff", "top_a", "presence_penalty", "dry_multiplier"):
        assert verdicts[f"decoding.{name}"] == "no", name
    assert (verdicts["sampling"], verdicts["seed"], verdicts["logprobs before temperature"]) == ("yes",) * 3
    assert verdicts["unknown keys are refused"] == "no"
    assert (verdicts["token ids"], verdicts["alternatives"]) == ("no", "yes")


@pytest.mark.parametrize("missing", ["top_k", "top_p", "min_p", "typical_p", "repetition_penalty"])
def test_what_is_ignored_is_found(missing: str) -> None:
    everything = {"temperature", "seed", *ALONE, "typical_p", "repetition_penalty"}
    assert found(everything - {missing})[f"decoding.{missing}"] == "no"


def test_a_text_that_does_not_repeat_itself_shows_nothing() -> None:
    assert _repeats("one two", "three one two")
    assert not _repeats("one two one two", "three four")


def test_servers_of_other_kinds() -> None:
    assert found({"seed"}) == {"greedy decoding repeats": "yes", "sampling": "no"}
    assert found({"temperature"})["seed"] == "no"
    assert found({"temperature", "seed"}, warped=True)["logprobs before temperature"] == "no"
    assert found({"temperature", "seed"}, spread=0.0)["logprobs before temperature"] == "unclear"
    assert found({"temperature", "seed"}, strict=True)["unknown keys are refused"] == "yes"


def test_the_command(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["backend=openai", f"backend.base_url={server.url}", "model.id=scripted"]
    assert main(["doctor", *words]) == 1
    printed = capsys.readouterr().out
    assert "at 1e-06 not the greedy text" in " ".join(printed.replace("│", " ").split())
    assert "leave it out of sweeps" in " ".join(printed.split())
    assert main(["doctor", "backend=hf"]) == 2
    assert "is no server" in capsys.readouterr().err
    assert main(["inspect", *words, "prompt=once"]) == 2
    assert "use backend=hf" in capsys.readouterr().err


def test_logprobs_that_would_be_mislabelled(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a vLLM server with --logprobs-mode processed_logprobs."""

    def run(name: str, verdict: Verdict) -> tuple[int, str]:
        monkeypatch.setattr(server_doctor, "probe", lambda *_: [Finding(RAW, verdict, "seen")])
        status = main(["doctor", f"backend={name}", f"backend.base_url={server.url}", "model.id=scripted"])
        return status, " ".join(capsys.readouterr().out.split())

    status, printed = run("vllm_server", "no")
    assert status == 1
    assert "not: start it with --logprobs-mode raw_logprobs" in printed
    for name, verdict in (("vllm_server", "unclear"), ("vllm_server", "yes"), ("openai", "no")):
        status, printed = run(name, verdict)  # type: ignore[arg-type]
        assert (status, "start it" in printed) == (0, False)
