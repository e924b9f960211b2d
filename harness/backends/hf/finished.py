"""A finished sample: its ids turned into text, token by token, beside what was recorded of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.backends.backend import Request
from harness.decoding.detokenizer import Detokenizer
from harness.store.records import FinishReason, Sample, Steps, Times


def finished_sample(
    request: Request,
    token_ids: Sequence[int],
    finish_reason: FinishReason,
    steps: Steps,
    times: Times,
    detokenizer: Detokenizer,
    sequence_score: float | None = None,
) -> Sample:
    """Return the record of one generated sequence.

    `token_ids` include the EOS that ended it, nothing after it; `steps` have one entry an id, without texts;
    `sequence_score` is that of beams.
    """
    prompt = request.prompt
    text = detokenizer.output_text(prompt.ids, token_ids)
    tops = [] if steps.top_ids is None else steps.top_ids.tolist()
    top_tokens = tuple(tuple(detokenizer.token_text(token) for token in step) for step in tops)
    return Sample(
        prompt_id=prompt.id,
        sample=request.sample,
        prompt=prompt.text,
        output=text.output,
        prompt_tokens=len(prompt.ids),
        output_tokens=len(token_ids),
        finish_reason=finish_reason,
        seed=request.strategy.seed,
        steps=replace(steps, token=text.token_texts, top_tokens=top_tokens),
        sequence_score=sequence_score,
        times=times,
    )
