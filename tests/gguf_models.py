"""GGUF files of small checkpoints, written by the package gguf as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name: str) -> str:
    """Return llama.cpp's name of a tensor of Llama or Qwen2."""
    stem, _, suffix = name.rpartition(".")
    if stem in ENDS:
        return f"{ENDS[stem]}.{suffix}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.{suffix}"


def permuted(weights: Any, heads: int) -> Any:
    """Return the rows of q or k in the order of llama.cpp's rotary embedding, where a Llama's are."""
    rows = weights.shape[0]
    halves = weights.reshape(heads, 2, rows // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def write_gguf(
    folder: Path, path: Path, kind: str = "F32", *, extra: Mapping[str, Any] | None = None, **metadata: Any
) -> Path:
    """Write a checkpoint of Llama or Qwen2 as a GGUF file; return the file.

    Args:
        folder: the checkpoint, with a tokenizer.json of a byte-level BPE.
        path: the file.
        kind: the type of the matrices; vectors are F32.
        extra: further tensors.
        metadata: further keys of the architecture with underscores for dots; `architecture` replaces its own.
    """
    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    architecture = metadata.pop("architecture", config["model_type"])
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("a small one")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(metadata.pop("vocab_size", config["vocab_size"]))
    if config["model_type"] == "llama":
        writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    for key, value in metadata.items():
        name = f"{architecture}.{key.replace('_', '.')}"
        writer.add_string(name, value) if isinstance(value, str) else writer.add_uint32(name, value)
    _add_tokenizer(writer, folder, config["vocab_size"])
    for name, weights in load_file(folder / "model.safetensors").items():
        weights = weights.astype(np.float32)
        if config["model_type"] == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            weights = permuted(weights, heads)
        stored = gguf.GGMLQuantizationType[kind if weights.ndim == 2 else "F32"]
        writer.add_tensor(gguf_name(name), gguf.quantize(weights, stored), raw_dtype=stored)
    for name, weights in (extra or {}).items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: Any, folder: Path, width: int) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    ids = {**tokenizer["model"]["vocab"], **{one["content"]: one["id"] for one in tokenizer["added_tokens"]}}
    names = {id_: name for name, id_ in ids.items()}
    special = {one["id"] for one in tokenizer["added_tokens"]}
    normal, control, unused, byte = 1, 3, 5, 6
    listed = [names.get(id_, f"[PAD{id_}]") for id_ in range(width)]
    types = [control if id_ in special else normal if id_ in names else unused for id_ in range(width)]
    if tokenizer["model"]["byte_fallback"]:
        writer.add_tokenizer_model("llama")
        types = [byte if name.startswith("<0x") else kind for name, kind in zip(listed, types, strict=True)]
        # The pairs that were merged first have the highest scores.
        order = ["".join(merge) for merge in tokenizer["model"]["merges"]]
        writer.add_token_scores([-float(order.index(name) if name in order else 999) for name in listed])
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_token_list(listed)
    writer.add_token_types(types)
    for role, add in (("bos", writer.add_bos_token_id), ("eos", writer.add_eos_token_id)):
        token = settings.get(f"{role}_token")
        if token:
            add(ids[token["content"] if isinstance(token, dict) else token])
    if settings.get("pad_token"):
        writer.add_pad_token_id(ids[settings["pad_token"]])
    writer.add_add_bos_token(bool(tokenizer.get("post_processor", {}).get("special_tokens")))
    template = folder / "chat_template.jinja"
    if template.is_file():
        writer.add_chat_template(template.read_text())


def dequantized(folder: Path, path: Path, kind: str, target: Path) -> Path:
    """Write a copy of a checkpoint whose matrices are what a GGUF file of this type keeps of them."""
    import gguf
    import numpy as np
    from safetensors.numpy import load_file, save_file

    target.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (target / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    stored = gguf.GGMLQuantizationType[kind]
    tensors = load_file(folder / "model.safetensors")
    for name, weights in tensors.items():
        if weights.ndim == 2:
            weights = weights.astype(np.float32)
            # A block is a part of a row, so that the order of rows does not matter.
            tensors[name] = gguf.dequantize(gguf.quantize(weights, stored), stored).astype(np.float32)
    assert config["torch_dtype" if "torch_dtype" in config else "dtype"] == "float32"
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target
