"""Backends that tell less than transformers does: texts only, or the chosen tokens' logprobs beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.backends.backend import (
    BatchEstimate,
    Capabilities,
    Failure,
    ReadAgain,
    Request,
    TokenIds,
    Usage,
)
from harness.config.point import Engine, Timing
from harness.progress import Progress
from harness.prompts.prompt import Prompt
from harness.store.records import PromptScores, Repetition, Sample, Steps

Answer = Callable[[Request], Sample]


def text_only(request: Request) -> Sample:
    """A server that answers with texts and tells nothing else."""
    return Sample(
        prompt_id=request.prompt.id,
        sample=request.sample,
        prompt=request.prompt.text,
        output=f" echo of {request.prompt.text!r}, again and again",
        prompt_tokens=None,
        output_tokens=None,
        finish_reason=None,
        seed=request.strategy.seed,
    )


def chosen_logprobs(request: Request) -> Sample:
    """A server that tells the text and the logprob of each chosen token, and counts tokens."""
    tokens = (" an", " answer", " of", " four")
    steps = Steps(token=tokens, logprob=np.array([-0.5, -1.0, -1.5, -2.0], dtype=np.float32))
    return Sample(
        prompt_id=request.prompt.id,
        sample=request.sample,
        prompt=request.prompt.text,
        output="".join(tokens),
        prompt_tokens=3,
        output_tokens=4,
        finish_reason="length",
        seed=request.strategy.seed,
        steps=steps,
    )


@dataclass
class FakeBackend:
    """Answers each request by a function; a request whose prompt holds `fail` fails."""

    answer: Answer
    capabilities: Capabilities = field(default_factory=Capabilities)
    token_ids: TokenIds = field(default_factory=TokenIds)
    warnings: tuple[str, ...] = ("answers are made up",)
    answered: int = 0
    distributions: None = None
    speculator: None = None

    def configure(self, engine: Engine) -> None:
        self.answered = 0

    def batch_size(self, requests: Sequence[Request]) -> int:
        return 4

    def generate(self, requests: Sequence[Request], progress: Progress) -> Iterator[Sample | Failure]:
        for request in requests:
            self.answered += 1
            progress.advance(1)
            if "fail" in request.prompt.text:
                yield Failure(RuntimeError("the server said no"))
            else:
                yield self.answer(request)

    def usage(self) -> Usage:
        return Usage(tokens=self.answered, rows=self.answered, batch_rows=4)

    def score(self, prompts: Sequence[Prompt]) -> Iterator[PromptScores]:
        raise AssertionError("it has no teacher forcing")

    def read_again(self, request: Request, generated: Sequence[int]) -> ReadAgain:
        raise AssertionError("it has no teacher forcing")

    def time(self, requests: Sequence[Request], timing: Timing, progress: Progress) -> list[Repetition]:
        return [
            Repetition(requests[0].prompt.id, repeat, 1, None, 10.0 + repeat, timing.new_tokens, ())
            for repeat in range(timing.repeats)
        ]

    def environment(self) -> dict[str, Any]:
        return {"server": "made up"}

    def effective(self, strategy: Any) -> dict[str, Any]:
        return {"max_new_tokens": strategy.max_new_tokens}

    def close(self) -> None:
        self.warnings = ()


@dataclass(frozen=True)
class FakeInfo:
    id: str = "made-up"
    context_length: int | None = None
    vocab_size: int | None = None


@dataclass(frozen=True)
class FakeTarget:
    """A server that answers by a function."""

    answer: Answer
    info: FakeInfo = FakeInfo()
    device: str = "nowhere"
    facts: Mapping[str, Any] = field(default_factory=lambda: {"server": "made up"})
    tokenizer_facts: str | None = None
    cache: None = None
    notes: tuple[str, ...] = ()
    precision: None = None
    checkpoint_precision: None = None
    weight_bytes: None = None
    remote: bool = False
    same_batch_same_bits: bool = False
    devices: int = 1

    def tokenizer(self) -> None:
        return None

    def shares_batches(self, effective: Mapping[str, Any]) -> bool:
        return True

    def estimate(self, requests: Sequence[Request], rows: int | None) -> BatchEstimate:
        return BatchEstimate(rows or 4, 0)

    def available_bytes(self) -> None:
        return None

    def open(self, progress: Progress) -> FakeBackend:
        return FakeBackend(self.answer)
