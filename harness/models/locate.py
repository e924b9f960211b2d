"""Find a model without loading it: built in, in a folder, or on the hub; `ModelFiles` says what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.config.point import Model
from harness.errors import ConfigError, Mistake
from harness.models.fable import FABLE_MODELS, fable_folder
from harness.models.hub import HUB_ID, ask_weights, fetch_small_files, nearest_builtin
from harness.models.prequantized import Stored, stored_quantization
from harness.models.weights import Tensor, fingerprint_files, main_dtype, read_header

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "tekken.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_CONTEXT_KEYS = (
    "max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx",
)  # fmt: skip
_ENCODER_DECODERS = {
    "t5", "mt5", "umt5", "longt5", "switch_transformers", "bart", "mbart", "marian", "pegasus", "pegasus_x",
    "blenderbot", "blenderbot-small", "led", "m2m_100", "nllb-moe", "prophetnet", "bigbird_pegasus",
    "whisper", "encoder-decoder", "seamless_m4t", "plbart", "t5gemma",
}  # fmt: skip


@dataclass(frozen=True)
class ModelFiles:
    """A model that was found: what its files say, without its weights being loaded.

    Attributes:
        id: as it was asked for.
        folder: a local folder; of a hub model the cache's snapshot.
        revision: the commit of a hub model, None for a folder.
        builtin: it is one of ours.
        config: config.json.
        weight_files: names of the files that hold the weights, in order; of a hub model perhaps not here yet.
        pickled: they are pickle (.bin), not safetensors.
        tensors: what the safetensors headers declare; empty when they are not to be had.
        has_remote_code: Python code comes with the checkpoint.
    """

    id: str
    folder: Path
    revision: str | None
    builtin: bool
    config: Mapping[str, Any] = field(repr=False)
    weight_files: tuple[str, ...]
    pickled: bool
    tensors: tuple[Tensor, ...] = field(repr=False)
    has_remote_code: bool

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The part of the config that speaks of the language model (of a multimodal one: `text_config`)."""
        inner = self.config.get("text_config")
        return inner if isinstance(inner, dict) else self.config

    @property
    def model_type(self) -> str:
        """The architecture's name in transformers."""
        return str(self.config.get("model_type", ""))

    @property
    def context_length(self) -> int | None:
        """How many positions the model has; None when it does not say (recurrent models)."""
        found = (self.text_config.get(key) for key in _CONTEXT_KEYS)
        return next((value for value in found if isinstance(value, int) and value > 0), None)

    @property
    def vocab_size(self) -> int | None:
        """Width of the logits, padding entries included."""
        value = self.text_config.get("vocab_size")
        return value if isinstance(value, int) else None

    @property
    def checkpoint_dtype(self) -> str | None:
        """The dtype it is meant to run in, as torch names it: config.json's, else its tensors'."""
        said = self.config.get("dtype") or self.config.get("torch_dtype")
        return str(said) if said and said != "auto" else main_dtype(self.tensors)

    @property
    def stored(self) -> Stored | None:
        """How the checkpoint was quantized before it was stored, else None."""
        return stored_quantization(self.config)

    @property
    def parameters(self) -> int | None:
        """Stored values over all tensors; None when the headers are not to be had."""
        return sum(tensor.numel for tensor in self.tensors) or None

    @property
    def weight_bytes(self) -> int | None:
        """Bytes of the stored weights; None when the headers are not to be had."""
        return sum(tensor.nbytes for tensor in self.tensors) or None

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        """generation_config.json as it is, {} when there is none."""
        path = self.folder / "generation_config.json"
        return _read_json(path) if path.is_file() else {}

    @cached_property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The tokens that end a text: generation_config.json's, else config.json's; empty if none says."""
        for source in (self.generation_config, self.text_config, self.config):
            found = source.get("eos_token_id")
            if found is not None:
                return tuple(found) if isinstance(found, list) else (found,)
        return ()

    def fingerprint(self) -> str:
        """What the weights are: the commit of a hub model, else a hash of config and weight files.

        A small file is hashed whole, a large one by size, time, header and sampled blocks
        (`weights.fingerprint_file`). The config counts without the names of its makers' versions.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        if self.revision is not None:
            return self.revision
        ignored = {"transformers_version", "_name_or_path"}
        config = {key: value for key, value in self.config.items() if key not in ignored}
        said = json.dumps([config, self.eos_token_ids], sort_keys=True)
        return fingerprint_files(self.folder, self.weight_files, said)

    def tokenizer_fingerprint(self, chat_template: str | None = None) -> str:
        """A hash of the tokenizer's files, and of a chat template that replaces their own."""
        present = [path.name for path in self.folder.glob("*.tiktoken")]
        return fingerprint_files(self.folder, [*TOKENIZER_FILES, *present], chat_template or "")


def locate(model: Model) -> ModelFiles:
    """Find a model and read what its small files say; loads no weights and imports no torch.

    Raises:
        ConfigError: it is not there or cannot be used; one line for each reason.
    """
    folder, revision, builtin = _find(model)
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise ConfigError.of("model.id", f"{model.id} is no model folder: it has no config.json")
    config = _read_json(config_path)
    if not config.get("model_type"):
        raise ConfigError.of(
            "model.id", f"{model.id}: its config.json names no model_type, so it is no known model"
        )
    if _is_encoder_decoder(config):  # before its weights: however they are kept, it cannot be used
        raise ConfigError.of(
            "model.id",
            f"{model.id} is an encoder-decoder model ({config['model_type']}); only decoder-only models "
            "(Llama, Qwen, Mistral, GPT-2, ...) can be used",
        )
    names, tensors = _weights(model, folder, revision)
    files = ModelFiles(
        id=model.id,
        folder=folder,
        revision=revision,
        builtin=builtin,
        config=config,
        weight_files=names,
        pickled=bool(names) and not names[0].endswith(".safetensors"),
        tensors=tensors,
        has_remote_code=_has_code(folder, config),
    )
    if mistakes := _refusals(model, files):
        raise ConfigError(mistakes)
    return files


def _find(model: Model) -> tuple[Path, str | None, bool]:
    """The folder, the hub commit, and whether the model is built in."""
    builtin = model.id in FABLE_MODELS
    folder = fable_folder(model.id) if builtin else Path(model.id).expanduser()
    if builtin or folder.is_dir():
        if model.revision is not None:
            raise ConfigError.of(
                "model.revision",
                f"{model.revision!r} has no meaning for {model.id}, which is not on the hub; drop it",
            )
        return folder.resolve(), None, builtin
    if folder.is_file():
        raise ConfigError.of("model.id", f"{model.id} is a file; give the folder that holds config.json")
    if not HUB_ID.fullmatch(model.id):
        raise ConfigError.of("model.id", f"there is no folder {model.id!r}, and a hub id it cannot be")
    if "/" not in model.id and (hint := nearest_builtin(model.id)):
        raise ConfigError.of("model.id", f"{model.id!r} is no built-in model{hint} and no folder here")
    snapshot = fetch_small_files(model.id, model.revision, code=model.trust_remote_code)
    return snapshot, snapshot.name, False


def _weights(model: Model, folder: Path, revision: str | None) -> tuple[tuple[str, ...], tuple[Tensor, ...]]:
    """Names of the weight files, and the tensors that their headers declare."""
    present = sorted(path.name for path in folder.iterdir() if path.is_file())
    names, missing = _choose(folder, present)
    if names and not missing:
        readable = [name for name in names if name.endswith(".safetensors")]
        return names, tuple(tensor for name in readable for tensor in read_header(folder / name))
    if revision is None:
        if missing:
            raise ConfigError.of(
                "model.id",
                f"{model.id} lacks {len(missing)} of its weight files ({missing[0]}); fetch it again",
            )
        raise ConfigError.of("model.id", f"{model.id} holds no weights: neither safetensors nor .bin files")
    remote = ask_weights(model.id, revision)
    names, _ = _choose(folder, list(remote.names))
    if not names:
        raise ConfigError.of(
            "model.id", f"{model.id} holds no weights on the hub that can be used (safetensors, .bin)"
        )
    return names, remote.tensors


def _choose(folder: Path, present: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The weight files to use, as transformers chooses them, and which of them are not among `present`."""
    for single, index in (
        ("model.safetensors", "model.safetensors.index.json"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ):
        if single in present:
            return (single,), []
        if index in present and (folder / index).is_file():
            found = _read_json(folder / index).get("weight_map")
            names = sorted(set(found.values())) if isinstance(found, dict) else []
            return tuple(names), [name for name in names if name not in present]
    return (), []


def _refusals(model: Model, files: ModelFiles) -> list[Mistake]:
    """What stands against using this model as it was asked for."""
    mistakes = []
    if files.pickled and not model.allow_pickle:
        mistakes.append(
            Mistake(
                "model.allow_pickle",
                f"{files.id} has its weights only as pickle ({files.weight_files[0]}), which can run any "
                "code when loaded; set model.allow_pickle=true if you trust it, or convert it to safetensors",
            )
        )
    if files.has_remote_code and not model.trust_remote_code and not _known_here(files.model_type):
        mistakes.append(
            Mistake(
                "model.trust_remote_code",
                f"{files.id} needs Python code that comes with it ({files.model_type}); read it, then set "
                "model.trust_remote_code=true",
            )
        )
    return mistakes


def _is_encoder_decoder(config: Mapping[str, Any]) -> bool:
    return bool(config.get("is_encoder_decoder")) or str(config.get("model_type")) in _ENCODER_DECODERS


def _known_here(model_type: str) -> bool:
    # Costs an import of torch; asked only of the few checkpoints that bring code along.
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return model_type in CONFIG_MAPPING_NAMES


def _has_code(folder: Path, config: Mapping[str, Any]) -> bool:
    tokenizer = folder / "tokenizer_config.json"
    return "auto_map" in config or (tokenizer.is_file() and "auto_map" in _read_json(tokenizer))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError.of("model.id", f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict):
        raise ConfigError.of("model.id", f"{path} holds no JSON object")
    return found
