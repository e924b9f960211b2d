"""`harness generate`: the text of one prompt, shown while it is decoded; nothing is stored.

Its job is the one that a sweep would make of the point, and its samples are those that a sweep would store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness.artifacts.job import Job
from harness.backends.backend import Backend, Failure, Request, StreamingBackend, TokenStep
from harness.cli.generate_arguments import GenerateArguments
from harness.cli.single_prompt import single_prompt
from harness.cli.status_line import StatusLine
from harness.cli.streamed_output import JsonLines, Output, TextOutput
from harness.config.point import Point
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.streamed_text import Piece
from harness.errors import HarnessError
from harness.garbage import begin_collection
from harness.once import Once
from harness.plan.prepare import prepare
from harness.store.records import Sample


def generate(point: Point, arguments: GenerateArguments) -> int:
    """Print the samples of one prompt as they come.

    Args:
        point: model, strategy, budget, seed and number of samples; its prompts are replaced by the one typed.
        arguments: the prompt, and how to print.

    Returns:
        The exit status.

    Raises:
        HarnessError: a sample failed, or the model cannot be loaded.
    """
    status = StatusLine()
    prompts = single_prompt(point.prompts, arguments)
    job = prepare(point.model_copy(update={"prompts": prompts}), Once())
    try:
        backend = job.target.open(status)
        begin_collection()
        try:
            _generate(backend, job, arguments, status)
        finally:
            backend.close()
    finally:
        status.erase()
    return 0


def _generate(backend: Backend, job: Job, arguments: GenerateArguments, status: StatusLine) -> None:
    for warning in dict.fromkeys((*job.warnings, *backend.warnings)):
        status.message(f"warning {warning}")
    backend.configure(job.point.engine)
    requests = list(job.requests(job.prompts, job.strategy(backend.token_ids)))
    output: Output = JsonLines()
    if not arguments.as_json:
        output = TextOutput(len(requests), arguments.colours, status.erase)
    if isinstance(backend, StreamingBackend) and backend.streams(requests[0].strategy):
        for request in requests:
            _stream(backend, request, output, status)
    else:
        _print_at_once(backend, job, requests, output, status)


def _stream(backend: StreamingBackend, request: Request, output: Output, status: StatusLine) -> None:
    """Print the tokens of one request as they come."""
    began = time.perf_counter()
    times: list[float] = []
    steps: list[TokenStep] = []

    def on_token(step: TokenStep) -> None:
        times.append(time.perf_counter())
        if not steps:
            status.erase()
        steps.append(step)
        output.token(step)

    output.begin(request)
    try:
        answer = backend.stream(request, on_token)
    except KeyboardInterrupt:
        status.erase()
        output.end(_interrupted(request, steps) | _timings(began, times))
        raise
    output.end(_facts(request, _sample(answer)) | _timings(began, times))


def _print_at_once(
    backend: Backend, job: Job, requests: Sequence[Request], output: Output, status: StatusLine
) -> None:
    """Print samples that are known only once all are complete, as if they came one by one."""
    point = job.point
    own = point.decoding.generate is not None
    name = "decoding.generate" if own else f"decoding={point.decoding.name}"
    over = "it returns" if own else "the search is over"
    status.message(f"{name} does not stream: its text comes when {over}")
    status.stage("searching", point.generation.max_new_tokens * len(requests), "tokens")
    tokenizer = job.target.tokenizer()
    text_of = None if tokenizer is None else Detokenizer(tokenizer).token_text
    began = time.perf_counter()
    answers = list(backend.generate(requests, status))
    ended = time.perf_counter()
    status.erase()
    for request, answer in zip(requests, answers, strict=True):
        sample = _sample(answer)
        output.begin(request)
        for step in _steps(sample, text_of):
            output.token(step)
        output.end(_facts(request, sample) | _search_timings(ended - began, sample))


def _sample(answer: Sample | Failure) -> Sample:
    """Return the sample.

    Raises:
        HarnessError: there is none.
    """
    if isinstance(answer, Sample):
        return answer
    if isinstance(answer.error, HarnessError):
        raise answer.error
    text = " ".join(str(answer.error).split()) or type(answer.error).__name__
    raise HarnessError(f"the text could not be generated: {text}") from answer.error


def _steps(sample: Sample, text_of: Callable[[int], str] | None) -> Iterator[TokenStep]:
    """Yield the tokens of a complete sample; one without an id where its tokens are not known."""
    steps = sample.steps
    if steps is None or steps.token is None:
        yield TokenStep(0, (Piece(0, sample.output),))
        return
    columns = steps.numbers()
    names = ("logprob", "warped_logprob", "rank", "entropy", "warped_entropy", "kept", "kept_mass")
    for position, text in enumerate(steps.token):
        token_id = None if steps.token_id is None else int(steps.token_id[position])
        own = text if token_id is None or text_of is None else text_of(token_id)
        numbers = {name: columns[name][position].item() for name in names if name in columns}
        yield TokenStep(position, (Piece(position, text),) if text else (), token_id, own, **numbers)


def _facts(request: Request, sample: Sample) -> dict[str, Any]:
    return {
        "prompt_id": request.prompt.id,
        "finish_reason": sample.finish_reason,
        "text": sample.output,
        "prompt_tokens": sample.prompt_tokens,
        "output_tokens": sample.output_tokens,
        "mean_logprob": sample.mean_logprob,
        "sequence_score": sample.sequence_score,
        "seed": sample.seed,
    }


def _interrupted(request: Request, steps: Sequence[TokenStep]) -> dict[str, Any]:
    """Return the same of what had come when a sample was interrupted."""
    logprobs = [step.logprob for step in steps if step.logprob is not None]
    return {
        "prompt_id": request.prompt.id,
        "finish_reason": "interrupted",
        "text": "".join(step.text for step in steps),
        "prompt_tokens": len(request.prompt.ids) or None,
        "output_tokens": len(steps),
        "mean_logprob": sum(logprobs) / len(logprobs) if logprobs else None,
        "sequence_score": None,
        "seed": request.strategy.seed,
    }


def _timings(began: float, times: Sequence[float]) -> dict[str, Any]:
    """Return the times of tokens that came one by one; the speed is that of those after the first."""
    decode = times[-1] - times[0] if times else 0.0
    return {
        "ttft_ms": 1000 * (times[0] - began) if times else None,
        "decode_ms": 1000 * decode if times else None,
        "tokens_per_s": (len(times) - 1) / decode if decode > 0 else None,
    }


def _search_timings(seconds: float, sample: Sample) -> dict[str, Any]:
    """Return the times of a search, which has no first token."""
    speed = sample.output_tokens / seconds if sample.output_tokens else None
    return {"ttft_ms": None, "decode_ms": 1000 * seconds, "tokens_per_s": speed}
