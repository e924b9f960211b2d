"""Keys that people will try because transformers has them, and what to say instead."""

from __future__ import annotations

_BUDGET = "use generation.max_new_tokens"
_HUB = "transformers moved it to a hub repository that runs remote code, so it is not offered"
_OURS = "the harness sets it itself"
_ASSISTED = "assisted decoding is not offered yet; it changes the speed and not what is sampled"
_RECORDED = "every step's probabilities are recorded anyway; record.top_k tells how many alternatives"

# By the key's last component, whatever part it was looked for in.
ELSEWHERE: dict[str, str] = {
    "max_length": f"{_BUDGET}: max_length counts the prompt too, so a long prompt would get a short answer",
    "max_tokens": _BUDGET,
    "n_tokens": _BUDGET,
    "num_tokens": _BUDGET,
    "min_length": "use decoding.min_new_tokens: min_length counts the prompt too",
    "num_return_sequences": "use generation.samples",
    "n": "use generation.samples",
    "num_samples": "use generation.samples",
    "n_samples": "use generation.samples",
    "random_seed": "use generation.seed",
    "stop": "use generation.stop_strings",
    "max_time": "not offered: what a sample says must not depend on how fast the machine is; "
    "bound it with generation.max_new_tokens",
    "eos_token_id": "it is the model's own; to go on past it use generation.ignore_eos=true, "
    "to stop at a text generation.stop_strings",
    "pad_token_id": _OURS,
    "bos_token_id": _OURS,
    "decoder_start_token_id": "only decoder-only models are run",
    "use_cache": _OURS,
    "return_dict_in_generate": _OURS,
    "output_scores": _RECORDED,
    "output_logits": _RECORDED,
    "penalty_alpha": f"contrastive search: {_HUB}",
    "dola_layers": f"DoLa: {_HUB}",
    "num_beam_groups": f"group beam search: {_HUB}",
    "diversity_penalty": f"group beam search: {_HUB}",
    "force_words_ids": f"constrained beam search: {_HUB}",
    "constraints": f"constrained beam search: {_HUB}",
    "custom_generate": "not offered: a config names no code to run",
    "prompt_lookup_num_tokens": _ASSISTED,
    "assistant_model": _ASSISTED,
    "assistant_early_exit": _ASSISTED,
    "num_assistant_tokens": _ASSISTED,
    "num_assistant_tokens_schedule": _ASSISTED,
    "assistant_confidence_threshold": _ASSISTED,
    "max_matching_ngram_size": _ASSISTED,
    "guidance_scale": "not offered yet: it runs the model twice a step",
    "watermarking_config": "not offered yet",
    "sequence_bias": "not offered yet; decoding.suppress_tokens and decoding.bad_words_ids forbid tokens",
    "token_healing": "not offered: a prompt is encoded as it is",
    "encoder_repetition_penalty": "only decoder-only models are run; use decoding.repetition_penalty",
    "encoder_no_repeat_ngram_size": "only decoder-only models are run; use decoding.no_repeat_ngram_size",
    "forced_bos_token_id": "not offered",
    "forced_eos_token_id": "not offered",
    "torch_dtype": "quantization decides it: quantization=fp32, bf16, fp16 or none (the checkpoint's)",
    "batch_size": "use engine.batch_rows for decoding, timing.batch_size for the latency pass",
    "name": "a choice's name is the name of its YAML file",
    "_target_": "not offered: a config names no code to run",
}
