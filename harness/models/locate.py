"""Find a model without loading it: built in, in a folder, or on the hub; `ModelFiles` describes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.config.point import Model
from harness.config.user_path import user_path
from harness.errors import ConfigError, Mistake
from harness.models.agreement import adapter_alone, contradictions
from harness.models.checkpoint_files import CONTEXT_KEYS, read_object, reading, wrong_values
from harness.models.fable import FABLE_MODELS, fable_folder
from harness.models.hub import fetch_small_files, nearest_builtin, remote_weights
from harness.models.prequantized import StoredQuantization, stored_quantization
from harness.models.weights import Tensor, fingerprint_files, main_dtype, read_header

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "tekken.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_ENCODER_DECODERS = {
    "t5", "mt5", "umt5", "longt5", "switch_transformers", "bart", "mbart", "marian", "pegasus", "pegasus_x",
    "blenderbot", "blenderbot-small", "led", "m2m_100", "nllb-moe", "prophetnet", "bigbird_pegasus",
    "whisper", "encoder-decoder", "seamless_m4t", "plbart", "t5gemma",
}  # fmt: skip


@dataclass(frozen=True)
class ModelFiles:
    """A model that was found, described by its small files; its weights are not loaded.

    Attributes:
        id: `model.id` of the config.
        folder: a local folder; of a hub model the cache's snapshot.
        revision: the commit of a hub model, None for a folder.
        config: content of config.json.
        weight_files: names of the weight files, in order; those of a hub model may not be fetched yet.
        pickled: they are pickle (.bin), not safetensors.
        tensors: what the safetensors headers declare; empty when they are not available.
        has_remote_code: Python code comes with the checkpoint.
    """

    id: str
    folder: Path
    revision: str | None
    config: Mapping[str, Any] = field(repr=False)
    weight_files: tuple[str, ...]
    pickled: bool
    tensors: tuple[Tensor, ...] = field(repr=False)
    has_remote_code: bool

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The config of the language model (within a multimodal one: `text_config`)."""
        inner = self.config.get("text_config")
        return inner if isinstance(inner, dict) else self.config

    @property
    def model_type(self) -> str:
        """The architecture's name in transformers."""
        return str(self.config.get("model_type", ""))

    @property
    def context_length(self) -> int | None:
        """The number of positions; None when config.json has none (recurrent models)."""
        found = (self.text_config.get(key) for key in CONTEXT_KEYS)
        return next((value for value in found if isinstance(value, int) and value > 0), None)

    @property
    def vocab_size(self) -> int | None:
        """Width of the logits, including padding entries."""
        value = self.text_config.get("vocab_size")
        return value if isinstance(value, int) else None

    @property
    def layers(self) -> int | None:
        """The number of layers; None when config.json does not tell."""
        value = self.text_config.get("num_hidden_layers", self.text_config.get("n_layer"))
        return value if isinstance(value, int) else None

    @property
    def checkpoint_dtype(self) -> str | None:
        """The dtype that the model is to run in, as torch names it: config.json's, else its tensors'."""
        dtype = self.config.get("dtype") or self.config.get("torch_dtype")
        return str(dtype) if dtype and dtype != "auto" else main_dtype(self.tensors)

    @property
    def stored(self) -> StoredQuantization | None:
        """How the checkpoint was quantized before it was stored, else None."""
        return stored_quantization(self.config)

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        """Content of generation_config.json, {} when there is none."""
        path = self.folder / "generation_config.json"
        return read_object(path) if path.is_file() else {}

    @cached_property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The EOS tokens: generation_config.json's, else config.json's; empty when neither has any."""
        for source in (self.generation_config, self.text_config, self.config):
            found = source.get("eos_token_id")
            if found is not None:
                return tuple(found) if isinstance(found, list) else (found,)
        return ()

    @property
    def eos_source(self) -> str:
        """The file that `eos_token_ids` come from; where they are empty, the tokenizer's."""
        if self.generation_config.get("eos_token_id") is not None:
            return "generation_config.json"
        return "config.json" if self.eos_token_ids else "tokenizer_config.json"

    @cached_property
    def fingerprint(self) -> str:
        """What identifies the weights: a hub model's commit, else a hash of config and weight files.

        The version of transformers in the config does not count.
        """
        if self.revision is not None:
            return self.revision
        ignored = {"transformers_version", "_name_or_path"}
        config = {key: value for key, value in self.config.items() if key not in ignored}
        text = json.dumps([config, self.eos_token_ids], sort_keys=True)
        return fingerprint_files(self.folder, self.weight_files, text)

    def tokenizer_fingerprint(self, chat_template: str | None = None) -> str:
        """Return a hash of the tokenizer's files, and of a chat template that replaces theirs."""
        present = [path.name for path in self.folder.glob("*.tiktoken")]
        return fingerprint_files(self.folder, [*TOKENIZER_FILES, *present], chat_template or "")


def locate(model: Model) -> ModelFiles:
    """Find a model and read its small files; no weights are loaded, and no torch is imported.

    Raises:
        ConfigError: it is not found or cannot be used; one line per reason.
    """
    with reading(model.id):
        return _locate(model)


def _locate(model: Model) -> ModelFiles:
    folder, revision = _find(model)
    config_path = folder / "config.json"
    if not config_path.is_file():
        missing = f"{model.id} is not a model folder: it has no config.json; give the folder that has it"
        raise ConfigError.of("model.id", adapter_alone(model.id, folder) or missing)
    config = read_object(config_path)
    if mistakes := list(wrong_values(str(config_path), config)):
        raise ConfigError(mistakes)
    if not config.get("model_type"):
        raise ConfigError.of(
            "model.id",
            f"{model.id}: its config.json names no model_type, so its architecture is unknown; choose "
            "another model",
        )
    if config.get("is_encoder_decoder") or config["model_type"] in _ENCODER_DECODERS:
        raise ConfigError.of(
            "model.id",
            f"{model.id} is an encoder-decoder model ({config['model_type']}); only decoder-only models "
            "(Llama, Qwen, Mistral, GPT-2, ...) can be used",
        )
    names, tensors = _weights(model, folder, revision)
    tokenizer = folder / "tokenizer_config.json"
    has_code = "auto_map" in config or (tokenizer.is_file() and "auto_map" in read_object(tokenizer))
    files = ModelFiles(
        id=model.id,
        folder=folder,
        revision=revision,
        config=config,
        weight_files=names,
        pickled=not names[0].endswith(".safetensors"),
        tensors=tensors,
        has_remote_code=has_code,
    )
    generation = files.folder / "generation_config.json"
    mistakes += wrong_values(str(generation), files.generation_config)
    mistakes += _refusals(model, files)
    mistakes += contradictions(files)
    if mistakes:
        raise ConfigError(mistakes)
    return files


def _find(model: Model) -> tuple[Path, str | None]:
    """Return the folder, and the commit of a hub model."""
    builtin = model.id in FABLE_MODELS
    folder = fable_folder(model.id) if builtin else user_path("model.id", model.id)
    if builtin or folder.is_dir():
        if model.revision is not None:
            raise ConfigError.of(
                "model.revision",
                f"{model.revision!r} has no effect on {model.id}, which is not a hub model; drop it",
            )
        return folder.resolve(), None
    if folder.is_file():
        raise ConfigError.of("model.id", f"{model.id} is a file; give the folder that has config.json")
    if "/" not in model.id and (hint := nearest_builtin(model.id)):
        raise ConfigError.of("model.id", f"{model.id!r} is neither a built-in model{hint} nor a folder here")
    snapshot = fetch_small_files(model.id, model.revision, code=model.trust_remote_code)
    return snapshot, snapshot.name


def _weights(model: Model, folder: Path, revision: str | None) -> tuple[tuple[str, ...], tuple[Tensor, ...]]:
    """Return the names of the weight files, and the tensors that their headers declare."""
    present = sorted(path.name for path in folder.iterdir() if path.is_file())
    names, missing = _choose(folder, present)
    if names and not missing:
        readable = [name for name in names if name.endswith(".safetensors")]
        return names, tuple(tensor for name in readable for tensor in read_header(folder / name))
    if revision is None:
        problem = "has no weights (safetensors or .bin files); give a folder that has them"
        if missing:
            problem = f"lacks {len(missing)} of its weight files ({missing[0]}); fetch it again"
        raise ConfigError.of("model.id", adapter_alone(model.id, folder) or f"{model.id} {problem}")
    remote, tensors = remote_weights(model.id, revision)
    names, _ = _choose(folder, remote)
    if not names:
        missing_ones = (
            f"{model.id} has no weights on the hub that can be used (safetensors, .bin); choose another model"
        )
        raise ConfigError.of("model.id", adapter_alone(model.id, folder) or missing_ones)
    return names, tensors


def _choose(folder: Path, present: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the weight files that transformers would use, and which of them are not among `present`."""
    for single, index in (
        ("model.safetensors", "model.safetensors.index.json"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ):
        if single in present:
            return (single,), []
        if index in present and (folder / index).is_file():
            found = read_object(folder / index).get("weight_map")
            if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
                problem = "has no weight_map from tensors to names of files; fetch it again"
                raise ConfigError.of("model.id", f"{folder / index} {problem}")
            names = sorted(set(found.values()))
            return tuple(names), [name for name in names if name not in present]
    return (), []


def _refusals(model: Model, files: ModelFiles) -> Iterator[Mistake]:
    """Yield why the model cannot be used with this config."""
    if files.pickled and not model.allow_pickle:
        yield Mistake(
            "model.allow_pickle",
            f"{files.id} has its weights only as pickle ({files.weight_files[0]}), which can run any "
            "code when loaded; set model.allow_pickle=true if you trust it, or convert it to safetensors",
        )
    if files.has_remote_code and not model.trust_remote_code and not _is_in_transformers(files.model_type):
        yield Mistake(
            "model.trust_remote_code",
            f"{files.id} needs Python code that comes with it ({files.model_type}); read it, then set "
            "model.trust_remote_code=true",
        )


def _is_in_transformers(model_type: str) -> bool:
    # Imports torch, but only for the few checkpoints that come with code.
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return model_type in CONFIG_MAPPING_NAMES
