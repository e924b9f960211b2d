"""Locating models: what their files contain, and every reason why one cannot be used, in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config.point import Model
from harness.errors import ConfigError
from harness.models.locate import locate
from harness.models.model_files import ModelFiles


def find(target: Any, **keys: Any) -> ModelFiles:
    return locate(Model(name="m", id=str(target), **keys))


def refusal(target: Any, **keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        find(target, **keys)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture
def copy(small_model: Any, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a small model whose config.json is changed by `changes` (None removes a key)."""

    def make(changes: dict[str, Any] | None = None, name: str = "copy", **properties: Any) -> Path:
        folder = shutil.copytree(small_model("llama", **properties), tmp_path / name)
        config = json.loads((folder / "config.json").read_text())
        config.update(changes or {})
        config = {key: value for key, value in config.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gpt2"])
def test_the_files_describe_the_loaded_model(small_model: Any, kind: str) -> None:
    from transformers import AutoModelForCausalLM

    folder = small_model(kind)
    files = find(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert sum(t.numel for t in files.tensors) == sum(p.numel() for p in model.parameters())
    assert all(t.nbytes == 4 * t.numel for t in files.tensors)
    assert files.context_length == model.config.max_position_embeddings == 128
    assert files.vocab_size == model.config.vocab_size
    assert files.checkpoint_dtype == "float32"
    assert files.eos_token_ids == (model.config.eos_token_id,)
    assert (files.model_type, files.revision, files.pickled) == (kind, None, False)


def test_shards_are_found_in_order_and_hold_the_same_tensors(small_model: Any) -> None:
    one, many = find(small_model("llama")), find(small_model("llama", shards=3))
    assert len(many.weight_files) >= 3
    assert list(many.weight_files) == sorted(many.weight_files)
    assert {(t.name, t.shape) for t in one.tensors} == {(t.name, t.shape) for t in many.tensors}


def test_the_fingerprint_changes_with_weights_and_config_and_nothing_else(
    copy: Any, small_model: Any
) -> None:
    base = find(small_model("llama")).fingerprint
    assert find(copy(name="same")).fingerprint == base
    assert find(copy({"transformers_version": "0", "_name_or_path": "x"}, name="words")).fingerprint == base
    assert find(copy({"rms_norm_eps": 1e-3}, name="config")).fingerprint != base
    assert find(small_model("llama", seed=1)).fingerprint != base
    touched = copy(name="byte")
    data = bytearray((touched / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (touched / "model.safetensors").write_bytes(bytes(data))
    assert find(touched).fingerprint != base
    ends = copy(name="ends")
    (ends / "generation_config.json").write_text('{"eos_token_id": [1, 5], "temperature": 0.1}')
    files = find(ends)
    assert files.eos_token_ids == (1, 5)
    assert files.fingerprint != base


def test_tokenizer_fingerprint_covers_files_and_template(copy: Any, small_model: Any) -> None:
    base = find(small_model("llama")).tokenizer_fingerprint()
    changed = copy()
    assert find(changed).tokenizer_fingerprint() == base
    assert find(changed).tokenizer_fingerprint("{{ x }}") != base
    (changed / "chat_template.jinja").write_text("{{ y }}")
    assert find(changed).tokenizer_fingerprint() != base


def test_multimodal_configs_keep_the_language_model_inside(copy: Any) -> None:
    inner = {"max_position_embeddings": 77, "vocab_size": 9}
    files = find(copy({"text_config": inner, "max_position_embeddings": None, "vocab_size": None}))
    assert (files.context_length, files.vocab_size) == (77, 9)
    assert find(copy({"max_position_embeddings": None}, name="b")).context_length is None


def test_folders_that_are_not_models(copy: Any, tmp_path: Path) -> None:
    assert "has no config.json" in refusal(tmp_path)
    assert "there is no folder" in refusal(tmp_path / "none" / "here")
    assert "there is no folder './x'" in refusal("./x")
    broken = copy()
    assert "is a file; give a GGUF file, or the folder" in refusal(broken / "config.json")
    assert "has no effect on" in refusal(broken, revision="main")
    (broken / "config.json").write_text("{")
    assert "cannot be read" in refusal(broken)
    assert "names no model_type" in refusal(copy({"model_type": None}, name="b"))


def test_missing_weights(copy: Any) -> None:
    bare = copy()
    (bare / "model.safetensors").unlink()
    assert "has no weights" in refusal(bare)
    sharded = copy(name="s", shards=3)
    (sharded / sorted(path.name for path in sharded.glob("*.safetensors"))[1]).unlink()
    assert "lacks 1 of its weight files (model-00002-of-" in refusal(sharded)


def test_pickle_needs_its_switch(small_model: Any) -> None:
    folder = small_model("llama", pickle=True)
    message = refusal(folder)
    assert message.startswith("model.allow_pickle: ")
    assert "pytorch_model.bin" in message
    assert "model.allow_pickle=true" in message
    files = find(folder, allow_pickle=True)
    assert (files.pickled, files.tensors) == (True, ())


def test_remote_code_needs_its_switch_unless_transformers_knows_the_model(copy: Any) -> None:
    code = {"auto_map": {"AutoModelForCausalLM": "modeling_x.XForCausalLM"}}
    foreign = copy({**code, "model_type": "x_llm"})
    message = refusal(foreign)
    assert message.startswith("model.trust_remote_code: ")
    assert "set model.trust_remote_code=true" in message
    assert find(foreign, trust_remote_code=True).has_remote_code
    # transformers knows a Llama by itself; the code that comes along is not run.
    assert find(copy(code, name="known")).has_remote_code


def test_encoder_decoders_are_refused(copy: Any) -> None:
    assert "is an encoder-decoder model (t5); only decoder-only models" in refusal(copy({"model_type": "t5"}))
    assert "encoder-decoder" in refusal(copy({"is_encoder_decoder": True}, name="b"))
    # That is checked before the weights, and reported alone.
    assert "encoder-decoder" in refusal(copy({"model_type": "t5"}, name="pickled", pickle=True))
    (bare := copy({"model_type": "t5"}, name="bare")).joinpath("model.safetensors").unlink()
    assert "encoder-decoder" in refusal(bare)


def test_a_misspelt_builtin_model_gets_a_hint() -> None:
    message = refusal("fable_smal")
    assert "did you mean fable_small?" in message
