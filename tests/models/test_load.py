"""Loading: ready to decode, whatever the checkpoint's defaults; and every way in which it fails."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest

from harness.config.point import Model, Quantization
from harness.errors import ConfigError, HarnessError
from harness.models.load import check_attention, free, load
from harness.models.locate import locate
from harness.models.memory import resolve_dtype

NONE = Quantization(name="none")
NF4 = Quantization(name="bnb_nf4", load_in_4bit=True, bnb_4bit_quant_type="nf4")


def loaded(folder: Any, quantization: Quantization = NONE, **keys: Any) -> Any:
    return load(Model(name="m", id=str(folder), **keys), quantization)


def logits(model: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model(torch.arange(10, 30)[None]).logits


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gpt2"])
def test_the_model_equals_the_one_of_transformers(small_model: Any, kind: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = small_model(kind)
    ours = loaded(folder)
    stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert torch.equal(logits(ours.model), logits(stock))
    assert not ours.model.training
    assert not any(parameter.requires_grad for parameter in ours.model.parameters())
    assert (ours.device, ours.dtype) == ("cpu", "float32")
    assert ours.facts["parameters"] == stock.num_parameters()
    assert ours.facts["memory_footprint_mb"] == pytest.approx(stock.get_memory_footprint() / 2**20)
    assert ours.facts["load_seconds"] > 0
    json.dumps(dict(ours.facts))


def test_shards_equal_one_file(small_model: Any) -> None:
    import torch

    one, many = loaded(small_model("llama")), loaded(small_model("llama", shards=3))
    assert many.facts["weight_files"] >= 3
    assert torch.equal(logits(one.model), logits(many.model))


def test_pickle_loads_with_its_switch(small_model: Any) -> None:
    import torch

    folder = small_model("llama", pickle=True)
    with pytest.raises(ConfigError, match="allow_pickle=true"):
        loaded(folder)
    assert torch.equal(
        logits(loaded(folder, allow_pickle=True).model), logits(loaded(small_model("llama")).model)
    )


def test_only_ids_remain_of_the_generation_config(small_model: Any) -> None:
    from transformers import GenerationConfig

    defaults = {"do_sample": True, "temperature": 0.1, "repetition_penalty": 1.5, "max_new_tokens": 3}
    found = loaded(small_model("llama", generation=defaults))
    assert found.files.generation_config["temperature"] == 0.1
    ids = {
        "bos_token_id": found.tokenizer.bos_token_id,
        "eos_token_id": [found.tokenizer.eos_token_id],
        "pad_token_id": found.tokenizer.pad_token_id,
    }
    ours = found.model.generation_config.to_diff_dict()
    neutral = GenerationConfig(**ids).to_diff_dict()
    assert ours == neutral
    assert {key: ours[key] for key in ids} == ids


def test_a_model_without_pad_or_bos_is_ready_too(small_model: Any) -> None:
    found = loaded(small_model("gpt2", pad=False, bos=False))
    assert found.model.generation_config.pad_token_id == found.tokenizer.eos_token_id
    assert found.tokenizer.padding_side == "left"


@pytest.mark.parametrize(
    ("stored", "configured", "expected"),
    [
        ("float16", "checkpoint", "float16"),
        ("bfloat16", "checkpoint", "bfloat16"),
        ("float16", "float32", "float32"),
    ],
)
def test_quantization_alone_decides_the_dtype(
    small_model: Any, stored: str, configured: Any, expected: str
) -> None:
    folder = small_model("llama", dtype=stored)
    quantization = Quantization(name="q", dtype=configured)
    found = loaded(folder, quantization)
    assert {str(parameter.dtype) for parameter in found.model.parameters()} == {f"torch.{expected}"}
    assert found.dtype == resolve_dtype(quantization, locate(Model(name="m", id=str(folder)))) == expected


def test_progress_goes_from_0_to_1_and_prints_nothing(
    small_model: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, float]] = []
    load(
        Model(name="m", id=str(small_model("llama", shards=3))),
        NONE,
        lambda what, fraction: seen.append((what, fraction)),
    )
    fractions = [fraction for what, fraction in seen if what == "loading weights"]
    assert fractions == sorted(fractions)
    assert len(fractions) > 10
    assert fractions[-1] == 1.0
    assert seen[-1] == ("loaded", 1.0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("quantization", [NONE, NF4, Quantization(name="bnb_int8", load_in_8bit=True)])
def test_free_releases_every_weight(small_model: Any, quantization: Quantization) -> None:
    found = loaded(small_model("llama"), quantization)
    logits(found.model)
    parameters = [weakref.ref(parameter) for parameter in found.model.parameters()]
    storages = [weakref.ref(parameter.untyped_storage()) for parameter in found.model.parameters()]
    assert parameters
    free(found)
    gc.collect()
    assert not [ref for ref in parameters if ref() is not None]
    assert not [ref for ref in storages if ref() is not None]
    assert list(found.model.parameters()) == []


def test_attention_is_checked(small_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    folder = small_model("llama")
    assert loaded(folder).facts["attention"] == "sdpa"
    assert loaded(folder, attention="eager").facts["attention"] == "eager"
    with pytest.raises(ConfigError, match="needs a CUDA device, this is cpu; use sdpa or eager"):
        loaded(folder, attention="flash_attention_2")
    with pytest.raises(ConfigError, match="which is not installed"):
        check_attention("flash_attention_2", "cuda:0", "bfloat16")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match="half precision only"):
        check_attention("flash_attention_2", "cuda:0", "float32")
    check_attention("flash_attention_2", "cuda:0", "bfloat16")


def changed(small_model: Any, tmp_path: Path, **config: Any) -> Path:
    folder = shutil.copytree(small_model("llama"), tmp_path / "changed")
    found = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**found, **config}))
    return folder


def test_incomplete_checkpoints_are_refused(small_model: Any, tmp_path: Path) -> None:
    folder = changed(small_model, tmp_path, num_hidden_layers=3)
    with pytest.raises(
        ConfigError, match=r"not a complete causal language model, 9 weights are missing .*layers\.2\."
    ):
        loaded(folder)


def test_wrong_shapes_are_an_error(small_model: Any, tmp_path: Path) -> None:
    folder = changed(small_model, tmp_path, intermediate_size=192)
    with pytest.raises(ConfigError, match=r"other shapes than its config\.json says") as caught:
        loaded(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_wrong_values_that_only_transformers_knows_are_named(small_model: Any, tmp_path: Path) -> None:
    folder = changed(small_model, tmp_path, attention_dropout="x")
    with pytest.raises(
        ConfigError, match=r"^model\.id: .* 'attention_dropout'.* got str.*; correct it"
    ) as caught:
        loaded(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_an_adapter_beside_pickled_weights_is_not_taken_for_them(small_model: Any, tmp_path: Path) -> None:
    import torch

    folder = shutil.copytree(small_model("llama", pickle=True), tmp_path / "m")
    plain = loaded(folder, allow_pickle=True)
    shutil.copy(small_model("llama") / "model.safetensors", folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    assert torch.equal(logits(plain.model), logits(loaded(folder, allow_pickle=True).model))


def test_architectures_that_are_not_known_or_cannot_decode(small_model: Any, tmp_path: Path) -> None:
    folder = changed(small_model, tmp_path, model_type="no_such_llm")
    with pytest.raises(ConfigError, match="the installed transformers does not know its architecture"):
        loaded(folder)
    shutil.rmtree(folder)
    folder = changed(small_model, tmp_path, model_type="vit")
    with pytest.raises(ConfigError, match="is not a causal language model; choose a decoder-only model"):
        loaded(folder)


def test_out_of_memory_is_one_line(small_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    def full(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(
        HarnessError,
        match=r"^model\.id: .* does not fit into the memory of cpu; use quantization=bnb_nf4 or a smaller",
    ):
        loaded(small_model("llama"))
