"""What each column of a point's tables means; types are in `tables.py`, which the reference reads too."""

from __future__ import annotations

from collections.abc import Mapping

TABLES: Mapping[str, str] = {
    "generations": "one row per sample; columns of metrics are added to it",
    "tokens": "one row per generated token; the EOS that ended a sample is its last row, with an empty text",
    "prompt_tokens": "one row per token of a prompt, with record.prompt_logprobs=true",
    "timing": "one row per timed repetition: the latency pass, apart from the samples",
    "times": "one row per sample: when it was decoded, together with others",
    "requests": "one row per sample of a server: what it told of its answer",
    "drift": "of a point of lower precision: one row per token of its reference's outputs",
}
"""The tables of a point, each a file `NAME.parquet` in its folder."""

ADDED: Mapping[str, tuple[str, ...]] = {"generations": ("reference", "messages")}
"""Columns of texts that a table has only where its prompts have them."""

_SHARED: Mapping[str, str] = {
    "prompt_id": "id of the prompt within its set",
    "sample": "index among the samples of a prompt, from 0",
    "position": "index of the token, from 0",
    "token_id": "the token's id",
    "token": "the text that the token adds; those of an output join to it",
    "logprob": "log-probability of the token in the model's distribution, nats",
    "rank": "1 + how many tokens are strictly likelier in the model's distribution",
    "entropy": "entropy of the model's distribution, nats",
    "prompt_tokens": "tokens of the prompt",
    "output_tokens": "generated tokens, the EOS that ended the sample included",
    "started": "when the prefill of its batch began, seconds since the epoch",
    "first_token": "when the first token was chosen, or came; seconds since the epoch",
    "ended": "when the last token was chosen, or came; seconds since the epoch",
}

_OF_A_TABLE: Mapping[str, Mapping[str, str]] = {
    "generations": {
        "prompt": "the text as the model got it, its chat template filled in",
        "output": "what the tokens add to the prompt; a stop string is kept",
        "finish_reason": "eos, stop_string or length; of a server also stop (not told which) or error",
        "seed": "of the random numbers that it was drawn with",
        "mean_logprob": "mean of `logprob` over the tokens, nats",
        "sequence_score": "what a search ranks it by: beams the length-penalised score, stochastic beams the "
        "log-probability with its noise; empty for other strategies",
        "sequence_logprob": "of stochastic beams: log-probability of the whole output under the distribution "
        "that it was drawn from",
        "reference": "the prompt's reference, where it has one",
        "messages": "of a chat: its turns, as JSON",
    },
    "tokens": {
        "warped_logprob": "log-probability of the token in the processed distribution, nats",
        "warped_entropy": "entropy of the processed distribution, nats",
        "kept": "how many tokens truncation left",
        "kept_mass": "probability of those in the model's distribution",
        "sum_p2": "sum of the squared probabilities of the model's distribution",
        "logit_std": "standard deviation of the model's logits",
        "vocab_mean_logprob": "mean log-probability over the vocabulary, nats",
        "allowed_logprob": "log of the probability of all tokens that a grammar allowed; empty without one",
        "top_ids": "ids of the `record.top_k` likeliest tokens of the model's distribution, likeliest first",
        "top_tokens": "their texts",
        "top_logprobs": "their log-probabilities in the model's distribution",
        "top_warped_logprobs": "their log-probabilities in the processed one; minus infinity where removed",
    },
    "prompt_tokens": {
        "logprob": "log-probability of the token after those before it, nats; none of the first"
    },
    "timing": {
        "prompt_id": "id of the prompt, or those of a batch, joined by commas",
        "repeat": "index of the repetition, from 0",
        "batch_size": "prompts decoded together (timing.batch_size)",
        "ttft_ms": "from the text to the first token, milliseconds; empty for beams, which stream nothing",
        "decode_ms": "from the first token to the last; of beams the whole run",
        "output_tokens": "tokens made per prompt",
        "itl_ms": "the times between consecutive tokens; empty for beams, and where several came at once",
    },
    "times": {"batch": "requests in its batch"},
    "requests": {
        "attempts": "requests that were sent for it, failed ones included",
        "sent": "when the last of them was sent, seconds since the epoch",
        "chunks": "parts of the stream that had text",
        "prompt_tokens": "tokens of the prompt, as the server counts them",
        "output_tokens": "tokens of the answer, as the server counts them",
        "cached_tokens": "tokens of the prompt that the server took from a cache",
        "reasoning_tokens": "tokens that the model wrote apart from the answer",
        "cost_usd": "what the answer cost",
        "model": "the model, as the server names it",
        "provider": "who answered, behind a router",
        "fingerprint": "the server's `system_fingerprint`",
        "request_id": "the server's id of the request",
        "reasoning": "what the model wrote apart from the answer",
        "error": "what cut the answer off",
    },
    "drift": {
        "logprob": "of the token under the reference, nats",
        "drift_logprob": "of the token under the point, nats",
        "rank": "of the token under the reference",
        "drift_rank": "of the token under the point",
        "same_top": "whether both have the same likeliest token",
        "margin": "probability of the reference's likeliest token less that of its second",
        "kl": "KL divergence of the point's distribution from the reference's, nats",
        "kl_error": "how far `kl` may be off, where not all of the reference was kept",
        "total_variation": "half the sum of the differences of all probabilities",
        "entropy": "of the reference's distribution, nats",
        "drift_entropy": "of the point's distribution, nats",
        "top_ids": "ids of the point's likeliest tokens, likeliest first",
        "top_tokens": "their texts",
        "top_logprobs": "their log-probabilities under the point",
    },
}


def columns_named(name: str) -> list[tuple[str, str]]:
    """Return of each column of this name its table and what it means there."""
    if name not in _SHARED and not any(name in own for own in _OF_A_TABLE.values()):
        return []
    from harness.store.tables import SCHEMAS

    tables = [table for table in TABLES if name in SCHEMAS[table].names or name in ADDED.get(table, ())]
    return [(table, meaning(table, name)) for table in tables]


def meaning(table: str, column: str) -> str:
    """Return what a column of a table means.

    Raises:
        KeyError: nothing is said of it.
    """
    own = _OF_A_TABLE.get(table, {})
    return own[column] if column in own else _SHARED[column]
