"""A finished sample: its ids turned into text, token by token, beside what was recorded of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.backends.backend import Failure, Request
from harness.backends.steps.finite import first_not_finite, not_finite
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError
from harness.models.load import LoadedModel
from harness.store.records import FinishReason, Sample, Steps, Times


def end_of(
    strategy: Strategy, prompt_ids: Sequence[int], token_ids: Sequence[int], detokenizer: Detokenizer
) -> FinishReason | None:
    """Return what the last of a sequence's tokens ended it with; None where it goes on."""
    if strategy.stop_strings and detokenizer.contains(strategy.stop_strings, prompt_ids, token_ids):
        return "stop_string"
    if token_ids[-1] in strategy.eos_token_ids:
        return "eos"
    return "length" if len(token_ids) >= strategy.max_new_tokens else None


def finished_sample(
    loaded: LoadedModel,
    request: Request,
    token_ids: Sequence[int],
    finish_reason: FinishReason | None,
    steps: Steps,
    times: Times,
    detokenizer: Detokenizer,
    sequence_score: float | None = None,
    sequence_logprob: float | None = None,
) -> Sample | Failure:
    """Return the record of one generated sequence; a Failure if a step of it was not finite.

    `token_ids` include the EOS that ended it, nothing after it; `steps` have one entry an id, without texts;
    `finish_reason` is None where a loop of the user's own went no further.
    `sequence_score` and `sequence_logprob` are those of searches.
    """
    prompt = request.prompt
    if (found := first_not_finite(steps)) is not None:
        step, raw = found
        where = f"prompt {prompt.id}, sample {request.sample}, step {step}"
        if raw:
            return Failure(not_finite(loaded, where))
        problem = "the strategy leaves no token, or its numbers overflow; relax its bans, or its temperature"
        return Failure(HarnessError(f"{where}: {problem}"))
    text = detokenizer.output_text(prompt.ids, token_ids)
    tops = [] if steps.top_ids is None else steps.top_ids.tolist()
    text_of = {token: detokenizer.token_text(token) for token in set().union(*tops)}
    top_tokens = tuple([tuple(map(text_of.__getitem__, step)) for step in tops])
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
        sequence_logprob=sequence_logprob,
        times=times,
    )
