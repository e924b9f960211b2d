"""The packaged checkpoints: format, size, EOS tokens, model cards."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from safetensors import safe_open

from harness.models.fable import FABLE_MODELS, fable_folder

FILES = {
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


def test_the_package_is_light_to_import() -> None:
    code = "import sys, harness.models.fable as f; print('torch' in sys.modules, *f.FABLE_MODELS)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "fable_tiny", "fable_small"]


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="fable_tiny, fable_small"):
        fable_folder("fable_big")


def test_together_they_take_8_mb_at_most() -> None:
    files = [file for name in FABLE_MODELS for file in fable_folder(name).iterdir()]
    assert sum(file.stat().st_size for file in files) <= 8e6


@pytest.mark.parametrize("name", FABLE_MODELS)
def test_the_folder_is_a_standard_llama(name: str) -> None:
    folder = fable_folder(name)
    assert {file.name for file in folder.iterdir()} == FILES
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == 512
    assert config["dtype"] == "float32"
    assert config["tie_word_embeddings"]
    with safe_open(folder / "model.safetensors", "pt") as weights:
        for key in weights.keys():  # noqa: SIM118
            tensor = weights.get_slice(key)
            assert tensor.get_dtype() == "F16"
            assert all(size % 64 == 0 for size in tensor.get_shape()), key


@pytest.mark.parametrize(("name", "millions"), [("fable_tiny", (0.3, 0.45)), ("fable_small", (1.7, 2.2))])
def test_sizes(name: str, millions: tuple[float, float], fables: dict) -> None:
    parameters = sum(p.numel() for p in fables[name].model.parameters()) / 1e6
    assert millions[0] < parameters < millions[1]


@pytest.mark.parametrize("name", FABLE_MODELS)
def test_generation_config_is_neutral_and_stops_on_both_ends(name: str, fables: dict) -> None:
    config = json.loads((fable_folder(name) / "generation_config.json").read_text())
    tokenizer = fables[name].tokenizer
    assert config.pop("eos_token_id") == tokenizer.convert_tokens_to_ids(["<|end|>", "<|turn|>"])
    assert config.pop("pad_token_id") == tokenizer.pad_token_id
    assert config.pop("bos_token_id") == tokenizer.bos_token_id
    assert set(config) <= {"_from_model_config", "transformers_version"}


@pytest.mark.parametrize("name", FABLE_MODELS)
def test_the_card_has_what_was_measured(name: str) -> None:
    card = (fable_folder(name) / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    for heading in ("Data:", "Training:", "Validation loss:", "Intended use", "copied", "without repeats"):
        assert heading in card
    assert float(re.search(r"Validation loss:\*\* ([\d.]+)", card)[1]) < 0.6
    assert "{" not in card
    assert not re.search(r"/(home|work|tmp|root|Users)/", card)
