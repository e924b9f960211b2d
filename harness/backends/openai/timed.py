"""Latencies of a streamed answer: parts of a stream are not tokens, unless there are as many."""

from __future__ import annotations

from itertools import pairwise

from harness.backends.openai.server_answer import Answer
from harness.store.records import Repetition


def timed_repetition(prompt_id: str, repeat: int, answer: Answer) -> Repetition:
    """Return the latencies of an answer.

    Inter-token latencies are known only where every part of the stream had one token. An answer that came in
    one part has no time to first token.
    """
    chunks, tokens = answer.chunks, answer.output_tokens
    total_ms = (answer.ended - answer.sent) * 1e3
    if len(chunks) < 2:
        return Repetition(prompt_id, repeat, 1, None, total_ms, tokens, ())
    single = tokens in (len(chunks), len(chunks) + 1)  # EOS may be one without text
    return Repetition(
        prompt_id=prompt_id,
        repeat=repeat,
        batch_size=1,
        ttft_ms=chunks[0] * 1e3,
        decode_ms=(chunks[-1] - chunks[0]) * 1e3,
        output_tokens=tokens,
        itl_ms=tuple((after - before) * 1e3 for before, after in pairwise(chunks)) if single else (),
    )
