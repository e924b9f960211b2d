"""Already quantized checkpoints are recognised, not quantized again, and run as they are or refused."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness.cli.doctor import TRIED
from harness.config.point import Model, Quantization
from harness.errors import ConfigError
from harness.models import prequantized
from harness.models.load import footprint_bytes, load
from harness.models.locate import locate
from harness.models.memory import weight_bytes
from harness.models.prequantized import StoredQuantization, stored_quantization
from harness.models.quantize import check_quantization

CHOICES = {quantization.name: quantization for quantization in TRIED}
NONE = Quantization(name="none")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

# As their makers write them into config.json.
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
COMPRESSED = {
    "quant_method": "compressed-tensors", "format": "pack-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
        "num_bits": 4, "group_size": 32, "type": "int", "symmetric": True, "strategy": "group"}}},
}  # fmt: skip
TORCHAO = {
    "quant_method": "torchao",
    "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_version": 2, "_data": {"group_size": 64}}},
}
OLD_BITSANDBYTES = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"}
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}


def logits(model: Any) -> Any:
    import torch

    ids = torch.randint(10, 300, (2, 24), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return model(ids).logits.double()


def with_quantization(small_model: Any, tmp_path: Path, config: dict[str, Any]) -> Any:
    """A checkpoint whose config.json has this quantization; its weights are not quantized."""
    folder = tmp_path / "stored"
    shutil.copytree(small_model("llama"), folder)
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(known | {"quantization_config": config}))
    return locate(Model(name="stored", id=str(folder)))


def saved(small_model: Any, folder: Path, name: str) -> Path:
    """A checkpoint with quantized weights, saved before any forward, which would repack them."""
    source = small_model("llama")
    load(Model(name="m", id=str(source)), CHOICES[name]).model.save_pretrained(folder)
    for file in TOKENIZER:
        if (source / file).is_file():
            shutil.copyfile(source / file, folder / file)
    return folder


@pytest.mark.parametrize(
    ("config", "description"),
    [
        (GPTQ, "gptq, 4 bits, groups of 128"),
        (AWQ, "awq, 4 bits, groups of 128"),
        (COMPRESSED, "compressed-tensors, 4 bits, groups of 32"),
        (TORCHAO, "torchao, 4 bits, groups of 64"),
        (OLD_BITSANDBYTES, "bitsandbytes, 4 bits"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes, 8 bits"),
        (FP8, "fp8, 8 bits"),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "gptq, 8 bits"),
        ({"quant_method": "aqlm", "nbits_per_codebook": 16}, "aqlm"),
        ({"bits": True, "quant_method": 7}, "7"),
        ({}, None),
        ("nf4", None),
        (None, None),
    ],
)
def test_what_config_json_says(config: Any, description: str | None) -> None:
    found = stored_quantization({"model_type": "llama", "quantization_config": config})
    assert (None if found is None else str(found)) == description


def test_multimodal_and_compressed_configs_are_found() -> None:
    assert stored_quantization({"compression_config": COMPRESSED}) == StoredQuantization(
        "compressed-tensors", 4, 32
    )
    assert stored_quantization({"quantization_config": OLD_BITSANDBYTES}) == StoredQuantization(
        "bitsandbytes", 4, None, "bfloat16"
    )


@pytest.mark.parametrize("config", [GPTQ, AWQ, COMPRESSED, TORCHAO, OLD_BITSANDBYTES, FP8])
@pytest.mark.parametrize("name", ["bnb_nf4", "bnb_int8", "torchao_int8_weight_only"])
def test_nothing_is_quantized_twice(small_model: Any, tmp_path: Path, config: Any, name: str) -> None:
    files = with_quantization(small_model, tmp_path, config)
    with pytest.raises(ConfigError) as caught:
        check_quantization(CHOICES[name], "cpu", files)
    assert str(caught.value) == (
        f"quantization: {name} cannot be applied to {files.id}, which is already quantized ({files.stored}); "
        "use quantization=none"
    )


@pytest.mark.parametrize(
    ("config", "missing", "cure"),
    [
        (GPTQ, {"optimum", "gptqmodel"}, "needs optimum and gptqmodel; optimum and gptqmodel are not"),
        (
            GPTQ,
            {"gptqmodel"},
            "optimum and gptqmodel; gptqmodel is not installed: pip install 'decoding-",
        ),
        (AWQ, {"gptqmodel"}, "gptqmodel is not installed: pip install 'decoding-harness[awq]'"),
        (COMPRESSED, {"compressed_tensors"}, "pip install 'decoding-harness[compressed-tensors]'"),
        (TORCHAO, {"torchao"}, "pip install 'decoding-harness[torchao]'"),
        (
            {"quant_method": "aqlm"},
            set(),
            "which is not supported; supported are bitsandbytes, torchao, gptq, awq, ",
        ),
    ],
)
def test_missing_packages_are_named_in_one_line(
    small_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Any, missing: Any, cure: str
) -> None:
    from harness.models import packages

    monkeypatch.setattr(packages, "find_spec", lambda name: None if name in missing else object())
    files = with_quantization(small_model, tmp_path, config)
    with pytest.raises(ConfigError) as caught:
        check_quantization(NONE, "cpu", files)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"model.id: {files.id} is already quantized ({files.stored}), which ")
    assert cure in line


def test_a_device_that_cannot_run_it_is_refused(small_model: Any, tmp_path: Path) -> None:
    files = with_quantization(small_model, tmp_path, GPTQ)
    with pytest.raises(ConfigError, match="which runs on cuda and cpu, and this is mps"):
        check_quantization(NONE, "mps", files)


def test_check_warns_that_a_checkpoint_is_quantized(
    small_model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.cli.main import main

    monkeypatch.setattr(prequantized, "missing_packages", lambda modules, extra: None)
    files = with_quantization(small_model, tmp_path, GPTQ)
    words = [f"model.id={files.id}", "prompts.items=[The fox]", "tracking=off", "timing=off"]
    assert main(["check", *words]) == 0
    assert (
        "warning stored: the checkpoint is already quantized (gptq, 4 bits, groups of 128) and runs as it is"
        in capsys.readouterr().out
    )
    assert main(["check", *words, "quantization=bnb_nf4"]) == 2
    assert (
        "is already quantized (gptq, 4 bits, groups of 128); use quantization=none" in capsys.readouterr().err
    )


@pytest.mark.parametrize("name", ["bnb_nf4", "bnb_nf4_double", "bnb_fp4", "bnb_int8"])
def test_a_stored_bitsandbytes_checkpoint_is_loaded_as_it_is(
    small_model: Any, tmp_path: Path, name: str
) -> None:
    import torch

    folder = saved(small_model, tmp_path / "stored", name)
    on_load = load(Model(name="m", id=str(small_model("llama"))), CHOICES[name])
    stored = load(Model(name="m", id=str(folder)), NONE)
    assert torch.equal(logits(stored.model), logits(on_load.model))
    assert stored.facts["quant_method"] == "bitsandbytes"
    assert stored.facts["stored_quantization"] == f"bitsandbytes, {8 if name == 'bnb_int8' else 4} bits"
    assert stored.facts["quantized_modules"] == on_load.facts["quantized_modules"] > 0
    assert stored.facts["parameters"] == on_load.facts["parameters"]
    assert stored.facts["compute_dtype"] == on_load.facts["compute_dtype"]
    assert weight_bytes(stored.files, NONE) == pytest.approx(footprint_bytes(stored.model), rel=0.02)
    assert on_load.facts["quant_method"] is None


@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
@pytest.mark.parametrize("name", ["torchao_int8_weight_only", "torchao_int8_dynamic", "torchao_int4_dynamic"])
def test_a_stored_torchao_checkpoint_is_loaded_as_it_is(small_model: Any, tmp_path: Path, name: str) -> None:
    import torch

    folder = saved(small_model, tmp_path / "stored", name)
    on_load = load(Model(name="m", id=str(small_model("llama"))), CHOICES[name])
    stored = load(Model(name="m", id=str(folder)), NONE)
    assert torch.equal(logits(stored.model), logits(on_load.model))
    assert stored.facts["quant_method"] == "torchao"
    assert stored.facts["quantized_modules"] == on_load.facts["quantized_modules"] > 0


def test_a_stored_fp8_checkpoint_is_unpacked(small_model: Any, tmp_path: Path) -> None:
    """Blocks of 128 x 128 share a scale, as DeepSeek-V3 stores them (arXiv 2412.19437)."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "stored"
    shutil.copytree(small_model("llama"), folder)
    tensors = load_file(folder / "model.safetensors")
    unpacked = {}
    for name, weight in list(tensors.items()):
        if name.endswith("_proj.weight"):
            scale = weight.abs().max() / 448
            tensors[name] = (weight / scale).to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = scale.reshape(1, 1)
            unpacked[name] = tensors[name].float() * scale
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": FP8}))

    loaded = load(Model(name="m", id=str(folder)), NONE)
    parameters = dict(loaded.model.named_parameters())
    for name, weight in unpacked.items():
        torch.testing.assert_close(parameters[name].float(), weight, rtol=0.01, atol=1e-6)
    assert bool(torch.isfinite(logits(loaded.model)).all())
    assert loaded.facts["stored_quantization"] == "fp8, 8 bits"
    assert weight_bytes(loaded.files, NONE) == pytest.approx(footprint_bytes(loaded.model), rel=0.02)
