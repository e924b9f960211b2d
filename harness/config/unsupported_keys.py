"""Keys that users will try because transformers or other tools have them, with advice for each."""

from __future__ import annotations

_BUDGET = "use generation.max_new_tokens"
_OURS = "the harness sets it itself"
_DECODER_ONLY = "only decoder-only models are supported"
_BLOCK = "not supported: blocks have fixed lengths, speculation.num_assistant_tokens"
_WINDOW = "use decoding.penalty_last_n: -1 for all tokens"
_DYNAMIC = "use decoding.temperature for the middle and decoding.dynatemp_range for the way up and down"
_ORDER = "use decoding.sampler_order, a list of names"
_LARK = "use decoding.grammar, in Lark's notation"
_OWN = (
    "not supported: a point names code by decoding.processors=[FILE.py:CLASS] or "
    "decoding.generate=FILE.py:FUNCTION only"
)
_RECORDED = "every step's probabilities are recorded anyway; record.top_k sets how many alternatives"

UNSUPPORTED_KEYS: dict[str, str] = {
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
    "max_time": "not supported: a sample must not depend on the speed of the machine; "
    "limit it with generation.max_new_tokens",
    "eos_token_id": "it is the model's own; to generate past it use generation.ignore_eos=true, "
    "to stop at a string generation.stop_strings",
    "pad_token_id": _OURS,
    "bos_token_id": _OURS,
    "decoder_start_token_id": _DECODER_ONLY,
    "use_cache": _OURS,
    "return_dict_in_generate": _OURS,
    "output_scores": _RECORDED,
    "output_logits": _RECORDED,
    "constraints": "use decoding.force_words, a list of words, or decoding.force_words_ids",
    "custom_generate": "use decoding.generate=FILE.py:FUNCTION",
    "logits_processor": "use decoding.processors=[FILE.py:CLASS]",
    "logits_processors": "use decoding.processors=[FILE.py:CLASS]",
    "prompt_lookup_num_tokens": "use speculation.prompt_lookup=true and speculation.num_assistant_tokens",
    "assistant_model": "use speculation.draft, a model with the same tokenizer",
    "assistant_early_exit": "use speculation.early_exit, a number of layers",
    "num_assistant_tokens_schedule": _BLOCK,
    "assistant_confidence_threshold": _BLOCK,
    "negative_prompt_ids": "use decoding.negative_prompt, a text",
    "cfg": "use decoding.guidance_scale",
    "cfg_scale": "use decoding.guidance_scale",
    "student_alpha": "use decoding.contrastive_alpha",
    "student_model": "use decoding.amateur",
    "watermarking_config": "use decoding=kgw or decoding=synthid",
    "token_healing": "not supported: a prompt is encoded as it is",
    "encoder_no_repeat_ngram_size": f"{_DECODER_ONLY}; use decoding.no_repeat_ngram_size",
    "forced_bos_token_id": "not supported",
    "forced_eos_token_id": "not supported",
    "torch_dtype": "quantization decides it: quantization=fp32, bf16, fp16 or none (the checkpoint's)",
    "batch_size": "use engine.batch_rows for decoding, timing.batch_size for the latency pass",
    "api_key": "a key is never in a config: put it into an environment variable and name that, as in "
    "backend.api_key_env=OPENAI_API_KEY",
    "url": "use backend.base_url",
    # other tools' names
    "repeat_penalty": "use decoding.repetition_penalty",
    "rep_pen": "use decoding.repetition_penalty",
    "rep_pen_range": _WINDOW,
    "repeat_last_n": _WINDOW,
    "repetition_penalty_range": _WINDOW,
    "typ_p": "use decoding.typical_p",
    "typical": "use decoding.typical_p",
    "tfs_z": "use decoding.tfs",
    "nsigma": "use decoding.top_n_sigma",
    "mirostat": "use decoding.mirostat_mode",
    "p_less_norm": "use decoding.p_less=norm",
    "dynatemp_low": _DYNAMIC,
    "dynatemp_high": _DYNAMIC,
    "dynamic_temperature": _DYNAMIC,
    "samplers": _ORDER,
    "sampler_priority": _ORDER,
    "sampler_seq": _ORDER,
    "guided_json": "use decoding.json_schema",
    "response_format": "use decoding.json_schema",
    "guided_regex": "use decoding.regex",
    "guided_choice": "use decoding.choices",
    "guided_grammar": _LARK,
    "gbnf": _LARK,
    "prefix_allowed_tokens_fn": "not supported: a config names no code; use decoding.regex or "
    "decoding.grammar",
    "replay": "the feature was removed, every point is decoded; "
    "`harness replay POINT decoding=...` shows what another decoding would have kept of a stored one",
    "name": "a choice's name is the name of its YAML file",
    "_target_": _OWN,
}
"""Advice by the last component of the key, whatever section it was looked for in."""
