"""Small random checkpoints of architectures whose caches, masks and positions differ from a Llama's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from small_models import CONTEXT, make_tokenizer, scale_head

_COMMON = {"hidden_size": 64, "num_hidden_layers": 2}
_HEADS = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": CONTEXT,
}
_GPT = {"n_positions": CONTEXT, "n_embd": 64, "n_layer": 2, "n_head": 4}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_chunk_size": 16}

CONFIGS: dict[str, dict[str, Any]] = {
    # Recurrent and state space models: nothing tells them which tokens are padding, or only a mask does.
    "Rwkv": {**_COMMON, "attention_hidden_size": 64, "intermediate_size": 128, "context_length": CONTEXT},
    "Mamba": {**_COMMON, "state_size": 8},
    "Mamba2": {**_COMMON, "state_size": 16, "num_heads": 8, "head_dim": 16, "n_groups": 2, "chunk_size": 16},
    "FalconMamba": {**_COMMON, "state_size": 8},
    # Hybrids of those and attention.
    "Bamba": {**_COMMON, **_HEADS, **_MAMBA, "mamba_n_groups": 2, "attn_layer_indices": [1]},
    "Jamba": {
        **_COMMON, **_HEADS, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
        "expert_layer_offset": 1, "num_experts": 2, "mamba_d_state": 8, "mamba_dt_rank": 8,
        "use_mamba_kernels": False,
    },
    "RecurrentGemma": {
        **_COMMON, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16,
        "intermediate_size": 128, "lru_width": 64, "attention_window_size": 8,
    },
    "FalconH1": {
        **_COMMON, **_HEADS, "mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16,
        "mamba_n_groups": 1, "mamba_chunk_size": 16,
    },
    "Lfm2": {**_COMMON, **_HEADS, "layer_types": ["conv", "full_attention"], "block_ff_dim": 128},
    "MiniMax": {
        **_COMMON, **_HEADS, "head_dim": 16, "block_size": 8, "num_local_experts": 2,
        "num_experts_per_tok": 1, "layer_types": ["linear_attention", "full_attention"],
    },
    "Qwen3Next": {
        **_COMMON, **_HEADS, "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16, "num_experts": 2, "num_experts_per_tok": 1,
        "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "GraniteMoeHybrid": {
        **_COMMON, **_HEADS, **_MAMBA, "mamba_n_groups": 1, "layer_types": ["mamba", "attention"],
        "num_local_experts": 2, "num_experts_per_tok": 1, "shared_intermediate_size": 64,
    },
    "NemotronH": {
        **_COMMON, **_HEADS, "head_dim": 16, "layers_block_type": ["mamba", "attention"],
        "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 2, "chunk_size": 16,
    },
    # No cache that transformers passes on, or no causal forward pass.
    "OpenAIGPT": _GPT,
    "XLNet": {"d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 128},
    "XLM": {"emb_dim": 64, "n_layers": 2, "n_heads": 4, "causal": True},
    "Reformer": {
        "is_decoder": True, "hidden_size": 64, "attention_head_size": 16, "num_attention_heads": 4,
        "axial_pos_embds": False, "attn_layers": ["local", "local"], "local_attn_chunk_length": 8,
        "max_position_embeddings": CONTEXT, "feed_forward_size": 64,
    },
    # Positions of their own.
    "CTRL": {**_GPT, "dff": 128},
    "Bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
    "Mpt": {"d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": CONTEXT},
    "OPT": {
        **_COMMON, "num_attention_heads": 4, "ffn_dim": 128, "max_position_embeddings": CONTEXT,
        "word_embed_proj_dim": 64,
    },
    "XGLM": {
        "d_model": 64, "num_layers": 2, "attention_heads": 4, "ffn_dim": 128,
        "max_position_embeddings": CONTEXT,
    },
    # Windows, chunks and compressed keys.
    "GPTNeo": {
        "hidden_size": 64, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
        "window_size": 8, "max_position_embeddings": CONTEXT,
    },
    "Gemma3Text": {
        **_COMMON, **_HEADS, "head_dim": 16, "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "Llama4Text": {
        **_COMMON, **_HEADS, "head_dim": 16, "attention_chunk_size": 16, "num_local_experts": 2,
        "intermediate_size_mlp": 128, "layer_types": ["chunked_attention", "full_attention"],
        "no_rope_layers": [1, 0],
    },
    "DeepseekV3": {
        **_COMMON, **_HEADS, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16,
        "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 2, "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "GptOss": {
        **_COMMON, **_HEADS, "head_dim": 16, "sliding_window": 8, "num_local_experts": 2,
        "num_experts_per_tok": 1,
    },
}  # fmt: skip
"""Arguments of each config class, whose name is the key and `Config`."""

REFUSED = ("XLNet", "XLM")
"""Those that are no left-to-right language models in a plain forward pass."""


def make_unusual_model(folder: Path, name: str) -> Path:
    """Write a random checkpoint of the architecture `name` into a new folder; return the folder."""
    import torch
    import transformers

    tokenizer = make_tokenizer("bytes", bos=True, pad=True, chat="none")
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = getattr(transformers, f"{name}Config")(
        **CONFIGS[name], **ids, vocab_size=384, initializer_range=0.1, tie_word_embeddings=False
    )
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    finally:
        torch.random.set_rng_state(state)
    scale_head(model)
    model.generation_config = transformers.GenerationConfig(**ids)
    folder.mkdir(parents=True)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder
