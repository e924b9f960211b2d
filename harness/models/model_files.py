"""What is known of a model before it is loaded: `ModelFiles`, read from its small files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.models.checkpoint_files import CONTEXT_KEYS, read_object, reading
from harness.models.gguf_header import GgufHeader
from harness.models.prequantized import StoredQuantization, stored_quantization
from harness.models.weights import Tensor, fingerprint_file, fingerprint_files, main_dtype

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "tekken.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip


@dataclass(frozen=True)
class ModelFiles:
    """A model that was found, described by its small files; its weights are not loaded.

    Attributes:
        id: `model.id` of the config.
        folder: a local folder; of a hub model the cache's snapshot.
        revision: the commit of a hub model, None for a folder.
        config: content of config.json, or what a GGUF file says of it.
        weight_files: names of the weight files, in order; those of a hub model may not be fetched yet.
        pickled: they are pickle (.bin), not safetensors.
        tensors: what the headers of the weight files declare; empty when they are not available.
        has_remote_code: Python code comes with the checkpoint.
        gguf: the header of a GGUF file, which is config, weights and tokenizer in one; None for others.
    """

    id: str
    folder: Path
    revision: str | None
    config: Mapping[str, Any] = field(repr=False)
    weight_files: tuple[str, ...]
    pickled: bool
    tensors: tuple[Tensor, ...] = field(repr=False)
    has_remote_code: bool
    gguf: GgufHeader | None = field(default=None, repr=False)

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
        if self.gguf is not None:
            return {}
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
        if self.gguf is not None:
            return self.gguf.path.name
        if self.generation_config.get("eos_token_id") is not None:
            return "generation_config.json"
        return "config.json" if self.eos_token_ids else "tokenizer_config.json"

    @cached_property
    def fingerprint(self) -> str:
        """What identifies the weights: a hub model's commit, else a hash of config and weight files.

        Of a GGUF file it is the commit and the file, else a hash of the file.

        The version of transformers in the config does not count.
        """
        if self.gguf is not None:
            if self.revision is not None:
                return f"{self.revision}/{self.weight_files[0]}"
            with reading(str(self.gguf.path)):
                return fingerprint_file(self.gguf.path)[:16]
        if self.revision is not None:
            return self.revision
        ignored = {"transformers_version", "_name_or_path"}
        config = {key: value for key, value in self.config.items() if key not in ignored}
        text = json.dumps([config, self.eos_token_ids], sort_keys=True)
        return fingerprint_files(self.folder, self.weight_files, text)

    def tokenizer_fingerprint(self, chat_template: str | None = None) -> str:
        """Return a hash of the tokenizer's files, and of a chat template that replaces theirs."""
        if self.gguf is not None:
            return hashlib.sha256(f"{self.gguf.tokenizer_digest}{chat_template or ''}".encode()).hexdigest()[
                :16
            ]
        present = [path.name for path in self.folder.glob("*.tiktoken")]
        return fingerprint_files(self.folder, [*TOKENIZER_FILES, *present], chat_template or "")
