"""From a server's answer to a sample: what it told goes into the tables, the rest stays empty."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.backends.backend import Request
from harness.backends.openai.dialect import Dialect
from harness.backends.openai.server_answer import Answer, Entry, Step
from harness.backends.openai.spending import Price, cost_of
from harness.store.records import FinishReason, Sample, Served, ServedReason, Steps, Times

_STOPPED = ("stop", "eos", "tool_calls", "function_call")


def to_sample(request: Request, answer: Answer, dialect: Dialect, seed: int, price: Price | None) -> Sample:
    """Return the sample that an answer is.

    Args:
        request: what was asked for.
        answer: of the server.
        dialect: of the server.
        seed: that was sent.
        price: of the model, where it is known.
    """
    steps = steps_of(answer, request.strategy.top_k)
    output = answer.text if steps is None or steps.token is None else "".join(steps.token)
    usage = answer.usage
    finish, error = _finish(request, answer, steps, dialect)
    first = answer.chunks[0] if answer.chunks else None
    details: Any = usage.get("completion_tokens_details") or {}
    cached: Any = usage.get("prompt_tokens_details") or {}
    return Sample(
        prompt_id=request.prompt.id,
        sample=request.sample,
        prompt=request.prompt.text,
        output=output,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=len(steps) if steps is not None else _count(answer.output_tokens),
        finish_reason=finish,
        seed=seed,
        steps=steps,
        times=None if first is None else Times(answer.sent, answer.sent + first, answer.ended, 1),
        served=Served(
            attempts=answer.attempts,
            sent=answer.sent,
            ended=answer.ended,
            first_token=None if first is None else answer.sent + first,
            chunks=len(answer.chunks),
            prompt_tokens=_count(usage.get("prompt_tokens")),
            output_tokens=_count(usage.get("completion_tokens")),
            cached_tokens=_count(cached.get("cached_tokens")),
            reasoning_tokens=_count(details.get("reasoning_tokens")),
            cost_usd=cost_of(usage, price),
            model=answer.model,
            provider=answer.provider,
            fingerprint=answer.fingerprint,
            request_id=answer.request_id,
            reasoning=answer.reasoning or None,
            error=error,
        ),
    )


def _finish(
    request: Request, answer: Answer, steps: Steps | None, dialect: Dialect
) -> tuple[FinishReason | ServedReason | None, str | None]:
    """Return what ended the answer, and what cut it off."""
    if answer.error is not None:
        return "error", answer.error
    if answer.finish in (None, "length"):
        return answer.finish, None  # type: ignore[return-value]
    if answer.finish not in _STOPPED:
        return "error", f"finish_reason {answer.finish}"
    if dialect.name == "vllm_server":
        return ("stop_string" if isinstance(answer.stop_reason, str) else "eos"), None
    asked = request.strategy.stop_strings
    if not asked or answer.finish == "eos":
        return "eos", None
    # An empty last token is EOS, or one that the stop string was cut from (llama.cpp).
    if steps is not None and steps.token is not None and any(text in "".join(steps.token) for text in asked):
        return "stop_string", None
    return "stop", None


def steps_of(answer: Answer, top_k: int) -> Steps | None:
    """Return what is known of each token; None where that is nothing, or does not fit the text.

    A stop string is cut from most servers' texts, but not from their tokens.
    """
    steps = answer.steps
    if not steps:
        return None
    token = token_texts([step.chosen for step in steps])
    if token is None or _lacks_tokens(answer) or not "".join(token).startswith(answer.text):
        return None
    ids = _ids(answer)
    if "".join(token) != answer.text and answer.finish == "stop" and _is_markup(token, answer.text):
        token = (*token[:-1], "")
    columns: dict[str, Any] = {"token": token, "token_id": None if ids is None else np.array(ids, np.int64)}
    logprobs = [step.chosen.logprob for step in steps]
    if None not in logprobs:
        columns["logprob"] = np.array(logprobs, np.float32)
    return Steps(**columns, **_alternatives(steps, top_k))


def _lacks_tokens(answer: Answer) -> bool:
    """Return whether the server counted other tokens than it told, but for an EOS."""
    counted = answer.usage.get("completion_tokens")
    if not isinstance(counted, int):
        return False
    details: Any = answer.usage.get("completion_tokens_details") or {}
    counted -= details.get("reasoning_tokens") or 0
    return not counted - 1 <= len(answer.steps) <= counted + 1


def _is_markup(token: Sequence[str], text: str) -> bool:
    """Return whether the last token is an end of text that the text lacks, not a stop string."""
    return "".join(token[:-1]) == text and token[-1].startswith("<") and token[-1].endswith(">")


def _ids(answer: Answer) -> list[int] | None:
    ids = [step.chosen.id for step in answer.steps]
    if None not in ids:
        return [one for one in ids if one is not None]
    return list(answer.token_ids) if len(answer.token_ids) == len(answer.steps) else None


def token_texts(entries: Sequence[Entry]) -> tuple[str, ...] | None:
    """Return the text that each token adds: of bytes, a character belongs to the token that completes it."""
    if any(entry.bytes is None for entry in entries):
        return tuple(entry.text for entry in entries)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last = len(entries) - 1
    try:
        return tuple(decoder.decode(bytes(e.bytes or ()), final=i == last) for i, e in enumerate(entries))
    except ValueError:  # numbers that are no bytes
        return None


def _alternatives(steps: Sequence[Step], top_k: int) -> dict[str, Any]:
    """Return the columns `top_*` and `rank`, as far as the recorded alternatives reach.

    Beyond those that were asked for, servers add the chosen token, whatever its rank.
    """
    ordered = [
        sorted((one for one in step.top if one.logprob is not None), key=lambda one: -(one.logprob or 0.0))
        for step in steps
    ]
    ordered = [some[:top_k] for some in ordered]
    k = min(len(some) for some in ordered) if ordered else 0
    found: dict[str, Any] = {}
    if k:
        cut = [some[:k] for some in ordered]
        ids = [[one.id for one in some] for some in cut]
        if not any(one is None for some in ids for one in some):
            found["top_ids"] = np.array(ids, np.int64)
        found["top_tokens"] = tuple(tuple(_text(one) for one in some) for some in cut)
        found["top_logprobs"] = np.array([[one.logprob for one in some] for some in cut], np.float32)
    ranks = [_rank(step.chosen, some) for step, some in zip(steps, ordered, strict=True)]
    if any(rank is not None for rank in ranks):
        found["rank"] = np.array(ranks, dtype=object)
    return found


def _rank(chosen: Entry, top: Sequence[Entry]) -> int | None:
    """Return 1 + how many tokens are likelier; None where the alternatives do not reach as far."""
    if chosen.logprob is None or not top or chosen.logprob < (top[-1].logprob or 0.0):
        return None
    return 1 + sum((one.logprob or 0.0) > chosen.logprob for one in top)


def _text(entry: Entry) -> str:
    return entry.text if entry.bytes is None else bytes(entry.bytes).decode("utf-8", "replace")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
