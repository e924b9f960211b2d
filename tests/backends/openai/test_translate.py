"""What each server is sent for a strategy, and what is refused; the expected keys are worked out by hand."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from harness.backends.openai.dialect import Dialect
from harness.backends.openai.dialects import DIALECTS
from harness.backends.openai.translate import Translation, translate
from harness.config.decoding import Decoding
from harness.config.effective import decoding_fields, effective_decoding
from harness.config.point import DialectName


def translated(dialect: str, **fields: Any) -> Translation:
    decoding = Decoding.model_validate_json(json.dumps({"name": "mine", "do_sample": True, **fields}))
    return translate(effective_decoding(decoding), DIALECTS[dialect])  # type: ignore[index]


def test_every_dialect_is_known() -> None:
    assert set(DIALECTS) == set(get_args(DialectName))
    for dialect in DIALECTS.values():
        assert set(dialect.takes) <= set(decoding_fields()), dialect.name
        assert not set(dialect.fields) & set(dialect.special), dialect.name
        # What is not sent is filled in by the server.
        alone = {"xtc_threshold", "mirostat_tau", "mirostat_eta", "dynatemp_exponent"}
        refining = alone | {name for name in dialect.fields if name.startswith("dry_")}
        neutral = {key for name, key in dialect.fields.items() if name not in refining}
        assert neutral <= set(dialect.neutral), dialect.name


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_plain_sampling_is_sent_in_full(dialect: Dialect) -> None:
    found = translated(dialect.name)
    wanted = dict(dialect.forced)
    if wanted:
        assert [str(one) for one in found.mistakes] == [
            "decoding.top_k=0: ollama always samples with top_k=40, which no request changes; "
            "use decoding.top_k=40, or decoding=greedy"
        ]
        found = translated(dialect.name, **wanted)
    assert found.mistakes == ()
    assert dialect.neutral.items() <= found.body.items()


def test_llama_cpp() -> None:
    body = translated("llama_cpp", temperature=2.0, top_p=0.5).body
    assert body["samplers"] == ["penalties", "dry", "temperature", "top_p"], "transformers' order"
    assert (body["temperature"], body["top_p"], body["top_k"], body["min_p"]) == (2.0, 0.5, 0, 0.0)
    last = translated("llama_cpp", temperature=2.0, top_p=0.5, min_p=0.1, temperature_last=True).body
    assert last["samplers"] == ["penalties", "dry", "top_p", "min_p", "temperature"]
    given = translated("llama_cpp", top_k=9, typical_p=0.9, sampler_order=["typical_p", "top_k"]).body
    assert given["samplers"] == ["penalties", "dry", "typ_p", "top_k", "temperature"]
    penalty = translated("llama_cpp", repetition_penalty=1.2).body
    assert penalty["repeat_penalty"] == 1.2
    assert "repetition_penalty" not in penalty
    assert penalty["repeat_last_n"] > 10**6, "all of the text, as transformers counts"
    assert translated("llama_cpp", repetition_penalty=1.2, penalty_last_n=64).body["repeat_last_n"] == 64
    (wrong,) = translated("llama_cpp", presence_penalty=0.5).mistakes
    assert "counts the prompt too" in str(wrong)
    assert translated("llama_cpp", presence_penalty=0.5, penalty_last_n=-1).mistakes == ()
    biased = translated("llama_cpp", logit_bias={"5": -2.0}, suppress_tokens=[9]).body["logit_bias"]
    assert biased == [[5, -2.0], [9, False]]
    (wrong,) = translated("llama_cpp", mirostat_mode=2, top_k=5).mistakes
    assert "leaves out all other samplers with mirostat" in str(wrong)
    assert translated("llama_cpp", mirostat_mode=2).body["mirostat"] == 2


def test_greedy_is_temperature_0() -> None:
    for name in ("openai", "openrouter", "vllm_server", "llama_cpp", "ollama", "lm_studio"):
        assert translated(name, do_sample=False).body["temperature"] == 0.0
        assert translated(name, do_sample=False).mistakes == ()
    webui = translated("text_generation_webui", do_sample=False).body
    assert (webui["do_sample"], webui["temperature"]) == (False, 1.0)


def test_other_names_and_units() -> None:
    assert translated("vllm_server", min_new_tokens=3).body["min_tokens"] == 3
    assert translated("vllm_server", repetition_penalty=1.2).body["repetition_penalty"] == 1.2
    assert translated("lm_studio", repetition_penalty=1.2).body["repeat_penalty"] == 1.2
    webui = translated("text_generation_webui", epsilon_cutoff=3e-4, penalty_last_n=8, repetition_penalty=1.1)
    assert webui.body["epsilon_cutoff"] == pytest.approx(3.0)
    assert webui.body["repetition_penalty_range"] == 8
    served = translated("transformers_serve", temperature=1.5, typical_p=0.9).body
    config = json.loads(served["generation_config"])
    assert config.items() >= {"do_sample": True, "temperature": 1.5, "typical_p": 0.9, "top_k": 0}.items()
    assert "temperature" not in served, "alone it would leave sampling off"


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_what_a_server_lacks_is_refused_by_name(dialect: Dialect) -> None:
    values: dict[str, Any] = {
        "typical_p": 0.9, "eta_cutoff": 1e-3, "top_a": 0.2, "skew": 0.5, "num_beams": 3, "top_k": 9,
        "guidance_scale": 1.5, "json_schema": {"type": "object"}, "no_repeat_ngram_size": 3,
        "processors": ["a.py:B"],
    }  # fmt: skip
    for name, value in values.items():
        sampling = {"do_sample": False} if name == "num_beams" else dict(dialect.forced)
        mistakes = [str(one) for one in translated(dialect.name, **{**sampling, name: value}).mistakes]
        if name in dialect.takes:
            assert all("always samples with" in one for one in mistakes)
            continue
        assert mistakes, name
        assert mistakes[0].startswith(f"decoding.{name}="), name
        says = "has no {name} and would ignore it"
        if (dialect.name, name) == ("transformers_serve", "num_beams"):
            says = "does not stream the text of a beam search"  # else it would take it
        assert f"{dialect.name} {says.format(name=name)}" in mistakes[0]
        assert "or backend=hf" in mistakes[0]


def test_an_order_that_matters_is_noted() -> None:
    assert translated("vllm_server", top_k=5, top_p=0.9).notes == ()
    assert translated("vllm_server", min_p=0.1, top_p=0.9).notes != ()
    assert translated("openrouter", top_k=5, top_p=0.9).notes != ()
    assert translated("llama_cpp", top_k=5, top_p=0.9, min_p=0.1).notes == ()
