"""Requests through vLLM's engine, step by step: what is new of each text, and which ones are done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

OnStep = Callable[[Mapping[int, Any]], Collection[int]]
"""Gets what is new of each text by its number, vLLM's `RequestOutput`; returns those that are to end."""


def run_requests(
    engine: Any, prompts: Sequence[Sequence[int]], params: Sequence[Any], on_step: OnStep
) -> None:
    """Run requests to their ends, numbered in their order.

    Whatever happens, nothing of them is left in the engine.
    """
    from vllm.inputs.engine import tokens_input

    left = set()
    try:
        for number, (ids, one) in enumerate(zip(prompts, params, strict=True)):
            engine.add_request(str(number), tokens_input(list(ids)), one)
            left.add(number)
        while left:
            found = engine.step()
            outputs = {int(one.request_id): one for one in found}
            ended = on_step(outputs)
            left -= {number for number, one in outputs.items() if one.finished}
            if stopped := [number for number in ended if number in left]:
                engine.abort_request([str(number) for number in stopped])
                left -= set(stopped)
    finally:
        if left:
            engine.abort_request([str(number) for number in left])
