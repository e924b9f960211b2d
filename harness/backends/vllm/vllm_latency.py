"""The latency pass in vLLM: its own loop, one strategy at a time, nothing recorded and nothing cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from harness.analysis.latency import repetition
from harness.backends.backend import Request
from harness.backends.vllm.chooser import Chooser
from harness.backends.vllm.elsewhere import MODEL, REQUEST, Unrecorded
from harness.backends.vllm.engine_outputs import Outputs
from harness.backends.vllm.engine_run import run_requests
from harness.backends.vllm.kept_token import Chosen, choosing
from harness.backends.vllm.request_params import chosen_by_processor, chosen_by_vllm
from harness.backends.vllm.vllm_checks import not_native
from harness.backends.vllm.vllm_engine import Opened
from harness.config.point import Model, Timing
from harness.decoding.detokenizer import Detokenizer
from harness.models.load import LoadedModel
from harness.store.records import Repetition


def time_in_engine(
    opened: Opened,
    loaded: LoadedModel,
    model: Model,
    requests: Sequence[Request],
    timing: Timing,
    *,
    here: bool,
    on_repetition: Callable[[], None],
) -> list[Repetition]:
    """Time the first `timing.prompts` requests of a strategy, `timing.repeats` times each after a warm-up.

    A strategy that vLLM's own sampler has is run by that, any other by the harness's processor. A fixed
    number of tokens is generated with end-of-text ignored; prompts that are too long with them are left out.
    Prefixes cached by an earlier repetition are forgotten, else there would be no prefill to wait for.
    """
    strategy = requests[0].strategy
    fixed = replace(strategy, max_new_tokens=timing.new_tokens, eos_token_ids=(), stop_strings=())
    fits = [r for r in requests if len(r.prompt.ids) + timing.new_tokens <= opened.max_model_len]
    chosen = [replace(request, strategy=fixed) for request in fits[: timing.prompts]]
    found = []
    for start in range(0, len(chosen), timing.batch_size):
        batch = chosen[start : start + timing.batch_size]
        for number in range(timing.warmup + timing.repeats):
            timed = _time_once(opened, loaded, model, batch, number - timing.warmup, here)
            if number >= timing.warmup:
                found.append(timed)
            on_repetition()
    return found


def _time_once(
    opened: Opened, loaded: LoadedModel, model: Model, batch: Sequence[Request], repeat: int, here: bool
) -> Repetition:
    outputs = Outputs(batch, Detokenizer(loaded.tokenizer))
    opened.engine.reset_prefix_cache()
    with ExitStack() as stack:
        params: list[Any]
        if not not_native(batch[0].strategy.effective):
            params = [chosen_by_vllm(request, None) for request in batch]
        elif here:
            params = [chosen_by_processor(number, one, None) for number, one in enumerate(batch)]
            chooser = Chooser(loaded, Unrecorded())
            for number, request in enumerate(batch):
                chooser.add(number, request, outputs.texts[number].tokens)
            chosen = Chosen(chooser)
            stack.enter_context(choosing(chosen))
        else:
            more = {MODEL: (model, loaded.files, loaded.dtype)}
            params = [
                chosen_by_processor(number, one, None, **more, **{REQUEST: one})
                for number, one in enumerate(batch)
            ]
        outputs.start()
        for request in batch:
            # The ids are known; a deployed loop would tokenize the text here.
            loaded.tokenizer(request.prompt.text, add_special_tokens=False)
        run_requests(opened.engine, [request.prompt.ids for request in batch], params, outputs.collect)
    # Of each token the time when the last text of the batch had it.
    times = [max(step) for step in zip(*(text.times for text in outputs.texts), strict=True)]
    name = ",".join(request.prompt.id for request in batch)
    return repetition(name, repeat, len(batch), outputs.started, times)
