"""Requests as vLLM's SamplingParams: for the harness's processor, or for vLLM's own sampler."""

from __future__ import annotations

from typing import Any

from harness.backends.backend import Request
from harness.backends.vllm.vllm_checks import not_native
from harness.decoding.gumbel_numpy import noise_key
from harness.decoding.strategy import Strategy


def chosen_by_processor(number: int, request: Request, logprobs: int | None, **more: Any) -> Any:
    """Return parameters with which vLLM takes the one token that a processor leaves.

    `more` are further arguments of the processor; `logprobs` as `chosen_by_vllm`.
    """
    from harness.backends.vllm.kept_token import ARGUMENT

    return _params(request.strategy, logprobs, temperature=0.0, extra_args={ARGUMENT: number, **more})


def chosen_by_vllm(request: Request, logprobs: int | None) -> Any:
    """Return a strategy as vLLM's own sampler has it; its noise is vLLM's, seeded by the request.

    `logprobs` is the number of alternatives that vLLM reports; None for no log-probabilities.
    """
    strategy = request.strategy
    assert not not_native(strategy.effective), "such a strategy is refused"
    value = strategy.effective
    if not strategy.do_sample:
        fields: dict[str, Any] = {"temperature": 0.0}
    else:
        fields = {
            "temperature": value["temperature"],
            "top_k": value["top_k"],
            "top_p": value["top_p"],
            "min_p": value["min_p"] or 0.0,
            "seed": noise_key(strategy.seed, request.prompt.id, request.sample) % 2**31,
        }
    for name in ("repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias"):
        if value.get(name) is not None:
            fields[name] = value[name]
    return _params(strategy, logprobs, **fields)


def _params(strategy: Strategy, logprobs: int | None, **fields: Any) -> Any:
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        max_tokens=strategy.max_new_tokens,
        # What ends a text is decided here, as for every backend.
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        logprobs=logprobs,
        **fields,
    )
