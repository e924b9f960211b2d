"""Whether the files of one checkpoint agree: config.json, weights, tokenizer, and an adapter beside them.

What cannot be run right is a mistake; what runs, but perhaps not as its user thinks, is a note of one line.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Mistake
from harness.models.checkpoint_files import read_object, reading
from harness.models.fable import FABLE_MODELS
from harness.models.weights import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.models.model_files import ModelFiles

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def adapter_alone(model_id: str, folder: Path) -> str | None:
    """Return what a folder without a model is, if it is an adapter, and the cure; None if it is none."""
    adapter = _adapter(folder)
    if adapter is None:
        return None
    return (
        f"{model_id} is not a model but an adapter ({_kind(adapter)}) to {_base(adapter)}; merge the "
        f"two, and give the folder that this writes: {_merge_command(folder, adapter)}"
    )


def contradictions(files: ModelFiles) -> Iterator[Mistake]:
    """Yield where the weights cannot be what config.json says."""
    if _adapter(files.folder) is not None and find_spec("peft") is not None:
        yield Mistake(
            "model.id",
            f"{files.id} has an adapter (adapter_config.json) beside its weights, and transformers would "
            "apply it, since peft is installed, while the store knows the weights alone; merge it, or move "
            "adapter_config.json elsewhere",
        )
    if files.stored is not None:
        return
    packed = [one for one in files.tensors if _is_matrix(one) and not one.dtype.startswith(("F", "BF"))]
    if packed:
        yield Mistake(
            "model.id",
            f"{files.id}: {packed[0].name} is stored as {packed[0].dtype}, and config.json has no "
            "quantization_config to say how to read it; fetch it again",
        )
    if files.text_config is not files.config:
        return  # the embeddings of other modalities have vocabularies of their own
    vocabulary = files.vocab_size
    rows = [one for one in files.tensors if one.name.endswith(_EMBEDDINGS) and len(one.shape) == 2]
    if vocabulary is not None and rows and all(one.shape[0] != vocabulary for one in rows):
        yield Mistake(
            "model.id",
            f"{files.id}: config.json has vocab_size={vocabulary}, and the weights have embeddings of "
            f"{max(one.shape[0] for one in rows)} tokens ({rows[0].name}); correct it, or fetch it again",
        )
    elif rows and files.config.get("tie_word_embeddings") is False and not _has_head(files.tensors, rows[0]):
        yield Mistake(
            "model.id",
            f"{files.id}: config.json has tie_word_embeddings=false, and the weights have no output head; "
            "set it to true if the head is the embedding, or fetch it again",
        )


def tokenizer_contradictions(files: ModelFiles, tokenizer: PreTrainedTokenizerBase) -> Iterator[Mistake]:
    """Yield a mistake where ordinary text becomes ids that the model does not have."""
    largest = max(set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder), default=0)
    if files.vocab_size is not None and largest >= files.vocab_size:
        yield Mistake(
            "model.id",
            f"{files.id}: the tokenizer has ids up to {largest}, and the model a vocabulary of "
            f"{files.vocab_size} tokens: they do not belong together; fetch both again",
        )


def disagreements(files: ModelFiles, name: str, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Yield what a model's user should know of its files, each in one line that begins with its `name`."""
    adapter = None if files.gguf else _adapter(files.folder)
    if adapter is not None:
        yield (
            f"{name}: the adapter beside the weights ({_kind(adapter)} to {_base(adapter)}) is not applied; "
            "unless the weights contain it already, merge it and give the folder that this writes: "
            f"{_merge_command(files.folder, adapter)}"
        )
    width = files.vocab_size
    if width is not None:
        ids = set(tokenizer.get_vocab().values())
        beyond, empty = sum(id_ >= width for id_ in ids), width - sum(0 <= id_ < width for id_ in ids)
        if empty and files.id not in FABLE_MODELS:  # those were trained with theirs, and never choose them
            yield (
                f"{name}: {empty} of the {width} tokens that the model can choose are not in its tokenizer; "
                "one that is drawn adds no text"
            )
        if beyond and files.gguf is None:  # transformers adds a token to some, which no file has
            yield (
                f"{name}: {beyond} tokens of its tokenizer are not in the model, which has {width}; a prompt "
                "with one is refused, and none is ever chosen"
            )
        if unknown := [id_ for id_ in files.eos_token_ids if not 0 <= id_ < width]:
            yield (
                f"{name}: eos_token_id={unknown[0]} of {files.eos_source} is not one of the model's {width} "
                "tokens, so it ends no text"
            )
    pad = tokenizer.pad_token
    if pad is not None and files.gguf is None and _is_ordinary_text(pad, files.folder, tokenizer):
        yield (
            f"{name}: the pad token {pad!r} of its tokenizer is ordinary text, which is left out of the "
            "outputs where it is chosen; name another one as pad_token in tokenizer_config.json, such as "
            f"{tokenizer.eos_token!r}"
        )


def _adapter(folder: Path) -> Mapping[str, Any] | None:
    """Return the content of a folder's adapter_config.json, None when there is none."""
    path = folder / "adapter_config.json"
    return read_object(path) if path.is_file() else None


def _kind(adapter: Mapping[str, Any]) -> str:
    return str(adapter.get("peft_type") or "of an unknown kind")[:40]


def _base(adapter: Mapping[str, Any]) -> str:
    base = adapter.get("base_model_name_or_path")
    return repr(base)[:200] if base else "a base model that it does not name"


def _merge_command(folder: Path, adapter: Mapping[str, Any]) -> str:
    """Return the command that writes model and adapter as one checkpoint into ./merged."""
    own = any((folder / name).is_file() for name in _TOKENIZERS)
    tokenizer = str(folder) if own else str(adapter.get("base_model_name_or_path"))
    program = (
        "from peft import AutoPeftModelForCausalLM as M; from transformers import AutoTokenizer as T; "
        f"M.from_pretrained({str(folder)!r}).merge_and_unload().save_pretrained('merged'); "
        f"T.from_pretrained({tokenizer!r}).save_pretrained('merged')"
    )
    return shlex.join(["python", "-c", program])


def _is_matrix(tensor: Tensor) -> bool:
    return len(tensor.shape) == 2 and tensor.name.endswith(".weight")


def _has_head(tensors: tuple[Tensor, ...], embedding: Tensor) -> bool:
    """Return whether a matrix beside the embeddings could be the head: it has a row a token."""
    rows = embedding.shape[0]
    return any(
        rows in one.shape for one in tensors if len(one.shape) == 2 and not one.name.endswith(_EMBEDDINGS)
    )


def _is_ordinary_text(pad: str, folder: Path, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a pad token is one of the vocabulary that nothing but its role makes special."""
    path = folder / "tokenizer.json"
    if pad in (tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token) or not path.is_file():
        return False
    with reading(str(path)):
        added = json.loads(path.read_text(encoding="utf-8")).get("added_tokens") or ()
    listed = (read_object(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}).values()
    return pad not in {one.get("content") for one in (*added, *listed)}
