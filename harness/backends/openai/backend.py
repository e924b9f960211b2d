"""A server as a backend: requests go out several at a time, samples come back in order."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from harness.backends.backend import Capabilities, Failure, ReadAgain, Request, TokenIds, Usage
from harness.backends.openai.client import Client, RequestError, ServerStopError, StoppedError
from harness.backends.openai.journal import Journal
from harness.backends.openai.request_threads import RequestThreads
from harness.backends.openai.requests import BATCHES, Outgoing, RequestFormat, sample_seed
from harness.backends.openai.server_answer import Answer
from harness.backends.openai.server_facts import ServerFacts
from harness.backends.openai.spending import BudgetError, Price, Spending, cost_of
from harness.backends.openai.timed import timed_repetition
from harness.backends.openai.to_sample import to_sample
from harness.config.point import Engine, Timing
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError
from harness.models.packages import package_version
from harness.progress import Progress
from harness.prompts.prompt import Prompt
from harness.store.records import PromptScores, Repetition, Sample

_EOS = -1
"""Stands for the server's own EOS, whose id is not known: a strategy without it ignores EOS."""


@dataclass(frozen=True)
class Terms:
    """How a backend works with its server.

    Attributes:
        request_format: how requests are made.
        facts: what the server tells of itself.
        price: of the model; None where it is unknown.
        spending: of the command.
        answers: folder for answers that are not in the store yet.
        concurrency: requests at once.
    """

    request_format: RequestFormat
    facts: ServerFacts
    price: Price | None
    spending: Spending
    answers: Path
    concurrency: int


class ServerBackend:
    """A server that answers requests; a `backends.backend.Backend`.

    Once it refuses the key, is gone, or the budget is reached, nothing more is sent to it.
    """

    capabilities = Capabilities(streaming=True)
    token_ids = TokenIds(eos=(_EOS,))
    distributions = None
    speculator = None

    def __init__(self, client: Client, terms: Terms) -> None:
        self._client = client
        self._terms = terms
        self._journal = Journal(terms.answers)
        self._rows: int | None = None
        self._tokens = 0
        self._stop: HarnessError | None = None
        self._seen: dict[str, Counter[str]] = {
            "model": Counter(),
            "provider": Counter(),
            "fingerprint": Counter(),
        }
        self._cut = self._unread = 0
        self._lock = threading.Lock()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What users of the samples should know."""
        name, asked = self._terms.request_format.dialect.name, self._terms.request_format.model
        lines = []
        for what, seen in self._seen.items():
            if len(seen) > 1:
                lines.append(
                    f"{name}: answers came from {len(seen)} of {what}: {', '.join(sorted(seen)[:4])}"
                )
        models = self._seen["model"]
        if len(models) == 1 and not _same_model(asked, next(iter(models))):
            lines.append(f"{name}: {asked} was asked for, {next(iter(models))} answered")
        if self._cut:
            lines.append(f"{name}: {self._cut} answers were cut off; finish_reason error, no metrics")
        if self._unread:
            lines.append(f"{name}: {self._unread} answers have other tokens than their text: left out")
        return tuple(lines)

    def configure(self, engine: Engine) -> None:
        """Begin a new `usage`; with `engine.fresh` everything is asked for again."""
        self._journal.leave()
        self._journal.fresh = engine.fresh
        self._rows = None if engine.batch_rows == "auto" else engine.batch_rows
        self._tokens = 0

    def batch_size(self, requests: Sequence[Request]) -> int:
        """Return how many samples are stored together."""
        return self._rows or self._terms.concurrency * BATCHES

    def generate(self, requests: Sequence[Request], progress: Progress) -> Iterator[Sample | Failure]:
        """Answer the requests, in their order.

        Raises:
            ServerStopError, BudgetError: nothing more is sent to this server.
        """
        self._journal.forget()  # the samples of the last batch are stored
        results: dict[int, Sample | Failure] = {}
        pool: RequestThreads[Request, Sample] = RequestThreads(self._sample, self._terms.concurrency)
        following = 0
        for index, result in pool.done(requests, self._client.stopped):
            if isinstance(result, Exception):
                self._journal.incomplete = True
            if isinstance(result, ServerStopError | BudgetError):
                self._stop = self._stop or result
            if isinstance(result, StoppedError):
                raise result
            results[index] = Failure(result) if isinstance(result, Exception) else result
            progress.advance(requests[index].strategy.max_new_tokens)
            while following in results and self._stop is None:
                yield results.pop(following)
                following += 1
        if self._stop is not None:
            raise self._stop

    def usage(self) -> Usage:
        """Return what was generated; the samples of all batches are stored when this is asked."""
        self._journal.forget()
        return Usage(tokens=self._tokens, rows=self._tokens, batch_rows=self._terms.concurrency)

    def score(self, prompts: Sequence[Prompt]) -> Iterator[PromptScores]:
        """A server does not score prompts."""
        self._cannot()

    def read_again(self, request: Request, generated: Sequence[int]) -> ReadAgain:
        """A server does not read outputs."""
        self._cannot()

    def time(self, requests: Sequence[Request], timing: Timing, progress: Progress) -> list[Repetition]:
        """Time one request at a time, with everything between here and the server."""
        found = []
        for request in requests[: timing.prompts]:
            outgoing = self._terms.request_format.timed(request, timing.new_tokens)
            for repeat in range(-timing.warmup, timing.repeats):
                answer = self._ask(request, outgoing, timing.new_tokens)
                if answer.error is not None:
                    raise RequestError(f"an answer that was timed was cut off: {answer.error}")
                if repeat >= 0:
                    found.append(timed_repetition(request.prompt.id, repeat, answer))
                progress.advance()
        return found

    def environment(self) -> dict[str, Any]:
        """Return what the server is, as JSON values."""
        request_format = self._terms.request_format
        return {
            "backend": "openai",
            "server": {
                "dialect": request_format.dialect.name,
                "url": self._client.connection.base_url,
                "asked_model": request_format.model,
                "facts": dict(self._terms.facts.address),
                **{name: dict(seen) for name, seen in self._seen.items()},
                "logprobs": request_format.dialect.logprobs if request_format.logprobs else None,
                "seeds": request_format.dialect.seeds or "sent",
                "reproducible": "not claimed",
            },
            "requests": {"retried": self._client.retried},
            "versions": {"httpx2": package_version("httpx2")},
        }

    def effective(self, strategy: Strategy) -> dict[str, Any]:
        """Return what every request of a strategy says."""
        return {
            "max_new_tokens": strategy.max_new_tokens,
            "request": self._terms.request_format.sampling(strategy),
        }

    def close(self) -> None:
        """Close the connections; what is in flight is lost."""
        self._client.close()

    def _sample(self, request: Request) -> Sample:
        """Return a sample: of an answer that is kept already, or asked for now."""
        request_format = self._terms.request_format
        strategy = request.strategy
        seed = strategy.seed
        if strategy.do_sample:
            seed = sample_seed(seed, request.prompt.id, request.sample)
        outgoing = request_format.outgoing(request, ignore_eos=not strategy.eos_token_ids)
        asked = [request.prompt.id, request.sample, outgoing.path, dict(outgoing.body)]
        path = self._journal.path([*asked, dict(self._terms.facts.address), self._client.connection.base_url])
        answer = self._journal.find(path)
        if answer is None:
            answer = self._ask(request, outgoing, strategy.max_new_tokens)
            self._journal.keep(path, answer)
            with self._lock:
                self._tokens += answer.output_tokens or 0
        sample = to_sample(request, answer, request_format.dialect, seed, self._terms.price)
        with self._lock:
            for name, seen in self._seen.items():
                if (value := getattr(answer, name)) is not None:
                    seen[value] += 1
            self._cut += sample.finish_reason == "error"
            self._unread += bool(answer.steps) and sample.steps is None
        return sample

    def _ask(self, request: Request, outgoing: Outgoing, new_tokens: int) -> Answer:
        """Return an answer, which is within the budget."""
        if self._stop is not None:
            raise self._stop
        price = self._terms.price
        most = 0.0 if price is None else price.at_most(request.prompt, new_tokens)
        try:
            self._terms.spending.reserve(most)
        except BudgetError as error:
            self._stop = error
            raise
        cost: float | None = 0.0
        try:
            answer = self._client.ask(outgoing.path, outgoing.body)
            cost = cost_of(answer.usage, price)
        except ServerStopError as error:
            self._stop = error
            raise
        except RequestError:
            cost = None  # it may have been paid for
            raise
        finally:
            self._terms.spending.settle(most, cost)
        return answer

    def _cannot(self) -> NoReturn:
        raise HarnessError(f"{self._terms.request_format.dialect.name} does not read given texts")


def _same_model(asked: str, answered: str) -> bool:
    """Return whether a server's name for what answered is that of what was asked for."""
    one, other = (name.rpartition("/")[2].lower().partition(":")[0] for name in (asked, answered))
    return one == other or other.startswith(one) or one.startswith(other)
