"""A GGUF file as a checkpoint: which one is meant, whether transformers can read it, what it says.

transformers dequantizes it: the weights are those of the file, memory and speed those of what they become.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.point import Model
from harness.errors import ConfigError, Mistake
from harness.models.gguf_header import PLAIN_TYPES, GgufHeader, read_gguf_header
from harness.models.gguf_weights import ROPE_FACTORS
from harness.models.model_files import ModelFiles
from harness.models.packages import missing_packages, package_version
from harness.models.weights import main_dtype

_MODEL_TYPES = {
    "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gpt-oss": "gpt_oss", "minimax-m2": "minimax_m2",
    "gemma3": "gemma3_text", "gemma4": "gemma4_text", "qwen35": "qwen3_5_text",
    "qwen35moe": "qwen3_5_moe_text",
}  # fmt: skip
"""How transformers names the architectures that llama.cpp names otherwise."""
_ENCODER_DECODERS = ("t5", "t5encoder", "umt5")

_BLOCKS = (
    "Q4_0", "Q4_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
    "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "IQ1_M",
)  # fmt: skip
"""Types that transformers dequantizes; for most architectures the package gguf does, which has more."""
_MORE_BLOCKS = ("Q5_0", "Q5_1", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4")

_ORIGINAL = "give the checkpoint that it was made from, a folder or a hub id"


def chosen_gguf(model: Model, folder: Path) -> Path | None:
    """Return the GGUF file of a folder that is meant: `model.gguf_file`, or the only one; None without any.

    Raises:
        ConfigError: there is no such file, or there are several to choose from.
    """
    names = sorted(path.name for path in folder.glob("*.gguf"))
    if model.gguf_file is not None:
        if not (folder / model.gguf_file).is_file():
            known = f"its GGUF files: {_few(names)}" if names else "it has no GGUF file; drop this key"
            stems = {Path(name).stem: name for name in names}
            near = difflib.get_close_matches(Path(model.gguf_file).stem, stems, n=1)
            hint = f"; did you mean {stems[near[0]]}?" if near else ""
            raise ConfigError.of(f"model.gguf_file={model.gguf_file}", f"not in {model.id}{hint} ({known})")
        return folder / model.gguf_file
    models = [name for name in names if not Path(name).name.startswith("mmproj")]
    if len(models) > 1:
        raise ConfigError.of("model.id", several_gguf(model.id, models))
    return folder / models[0] if models else None


def several_gguf(model_id: str, names: Sequence[str]) -> str:
    """Return that one of several GGUF files must be named, with the first that is."""
    return f"{model_id} has GGUF files ({_few(names)}); name one: model.gguf_file={names[0]}"


def gguf_files(model_id: str, path: Path, revision: str | None, gguf_file: str | None) -> ModelFiles:
    """Return a GGUF file, described.

    Args:
        model_id: `model.id` of the config.
        path: the file.
        revision: the commit of a hub model.
        gguf_file: `model.gguf_file` of the config.

    Raises:
        ConfigError: it is no model that transformers can read, it is not the file that the config names, or
            the package gguf is not installed.
    """
    if gguf_file is not None and Path(gguf_file).name != path.name:
        problem = f"model.id={model_id} is another file; drop this key, or give the folder as model.id"
        raise ConfigError.of(f"model.gguf_file={gguf_file}", problem)
    header = read_gguf_header(path)
    if mistakes := list(_refusals(model_id, header)):
        raise ConfigError(mistakes)
    return ModelFiles(
        id=model_id,
        folder=path.parent,
        revision=revision,
        config=_config(header),
        weight_files=(gguf_file or path.name,),
        pickled=False,
        tensors=header.tensors,
        has_remote_code=False,
        gguf=header,
    )


def dequantized_note(name: str, header: GgufHeader, dtype: str) -> str:
    """Return in one line that a GGUF file is not run as it is stored."""
    return (
        f"{name}: the weights of the GGUF file ({header.type_name}, {header.bits:.1f} bits a value) are "
        f"dequantized to {dtype}; memory and latency are not those of llama.cpp"
    )


def stored_text(files: ModelFiles) -> str | None:
    """Return how a checkpoint was quantized before it was stored, for its facts; None where it was not."""
    if files.gguf is not None and files.gguf.quantized:
        return f"{files.gguf.type_name}, dequantized"
    return None if files.stored is None else str(files.stored)


def _refusals(model_id: str, header: GgufHeader) -> Iterator[Mistake]:
    """Yield why a file cannot be used."""

    def refused(problem: str) -> Mistake:
        return Mistake("model.id", f"{model_id} {problem}")

    parts = header.metadata.get("split.count", 0)
    kind = header.metadata.get("general.type", "model")
    if isinstance(parts, int) and parts > 1:
        first, merged = header.path.name, "merged.gguf"
        cure = f"merge them: llama-gguf-split --merge {first} {merged}, then model.id={merged}"
        yield refused(f"is one of {parts} parts, which transformers does not read; {cure}")
        return
    if kind != "model":
        yield refused(f"holds no model but what it calls {str(kind)[:40]!r}; give the model's own file")
        return
    if header.architecture in _ENCODER_DECODERS:
        yield refused(f"is an encoder-decoder model ({header.architecture}); use a decoder-only model")
        return
    readable, new = _architectures()
    names = {header.architecture, _MODEL_TYPES.get(header.architecture, header.architecture)}
    if not names & {*readable, *new}:
        version = package_version("transformers")
        yield refused(
            f"is of the architecture {header.architecture[:40]!r}, which transformers {version} does not "
            f"read from GGUF ({', '.join(sorted({*readable, *new} - {*_ENCODER_DECODERS}))}); {_ORIGINAL}"
        )
        return
    own = header.architecture in new
    types = {*PLAIN_TYPES, *_BLOCKS, *(() if own else _MORE_BLOCKS)}
    if unknown := sorted({tensor.dtype for tensor in header.tensors} - types):
        yield refused(f"has tensors of {_few(unknown)}, which transformers cannot dequantize; {_ORIGINAL}")
    scaling = header.of_architecture("rope.scaling.type")
    long = any(tensor.name.startswith("rope_factors_") for tensor in header.tensors)
    if long or (scaling not in (None, "none") and header.architecture != "gpt-oss"):
        how = "longrope" if long else str(scaling)[:40]
        yield refused(
            f"scales its positions ({how}), which transformers does not read from GGUF; {_ORIGINAL}"
        )
    has_factors = any(tensor.name == ROPE_FACTORS for tensor in header.tensors)
    if has_factors and header.architecture not in ("llama", "mistral", "deci"):
        yield refused(f"has {ROPE_FACTORS}, which transformers does not read; {_ORIGINAL}")
    rows = {tensor.shape[0] for tensor in header.tensors if tensor.name == "token_embd.weight"}
    vocabulary = _vocabulary(header)
    if vocabulary is not None and rows and vocabulary not in rows:
        yield refused(
            f"has a vocabulary of {vocabulary} tokens and embeddings of {max(rows)}; fetch it again, or "
            "give another file"
        )
    if missing := missing_packages(("gguf",), "gguf"):
        yield refused(f"is read with the package gguf; {missing}")


def _architectures() -> tuple[set[str], set[str]]:
    """Return what transformers reads from GGUF: by way of the package gguf, and by itself."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS

    return {*GGUF_CONFIG_MAPPING} - {"general", "tokenizer"}, {*GGUF_CONFIG_ARCHS}


def _config(header: GgufHeader) -> dict[str, Any]:
    """Return what config.json would say; transformers makes its own of the file when it loads it."""
    heads = _largest(header.of_architecture("attention.head_count"))
    found: Mapping[str, Any] = {
        "model_type": _MODEL_TYPES.get(header.architecture, header.architecture),
        # What is quantized is exact in float32 only.
        "dtype": "float32" if header.quantized else main_dtype(header.tensors),
        "vocab_size": _vocabulary(header),
        "max_position_embeddings": header.of_architecture("context_length"),
        "num_hidden_layers": header.of_architecture("block_count"),
        "hidden_size": header.of_architecture("embedding_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": _largest(header.of_architecture("attention.head_count_kv")) or heads,
        "head_dim": header.of_architecture("attention.key_length"),
        **{
            f"{role}_token_id": header.metadata.get(f"tokenizer.ggml.{key}_token_id")
            for role, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
        },
    }
    return {key: value for key, value in found.items() if value is not None}


def _vocabulary(header: GgufHeader) -> int | None:
    stated, tokens = header.of_architecture("vocab_size"), header.metadata.get("tokenizer.ggml.tokens")
    return next((value for value in (stated, tokens) if isinstance(value, int)), None)


def _largest(value: object) -> int | None:
    """Return a count that is one for all layers, or one a layer."""
    counts = value if isinstance(value, list) else [value]
    return max((one for one in counts if isinstance(one, int)), default=None)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
