"""A server before anything is generated: what it is, what a point's samples depend on, what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.backends.backend import Backend, BatchEstimate, Request, Target
from harness.backends.openai.client import Client, Connection, ServerStopError, is_local
from harness.backends.openai.dialect import Dialect
from harness.backends.openai.dialects import DIALECTS
from harness.backends.openai.requests import BATCHES, RequestFormat
from harness.backends.openai.server_facts import ServerFacts, ask_server
from harness.backends.openai.spending import Price, Spending
from harness.backends.openai.translate import translate
from harness.config import point as config
from harness.config.effective import effective_decoding
from harness.errors import ConfigError, Mistake
from harness.once import Once
from harness.progress import Progress
from harness.prompts.prompt import Prompt
from harness.store.address import digest
from harness.store.files import outputs_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENGINE_VERSION = 2
"""Raise it when the same answers are recorded otherwise than before."""

_SENT_ANYWAY = ("temperature", "top_p", "max_tokens", "stop", "seed")


@dataclass(frozen=True)
class ServedModel:
    """A model at a server; a `models.model_info.ModelInfo`."""

    id: str
    context_length: int | None = None
    vocab_size: int | None = None
    layers: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class ServerTarget(Target):
    """A server; see `backends.backend.Target`."""

    backend: config.Backend
    server_facts: ServerFacts
    price: Price | None
    spending: Spending

    remote = True

    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """Return None: the server takes texts."""
        return None

    def shares_batches(self, effective: Mapping[str, Any]) -> bool:
        """Return True: the requests of all strategies are sent at once."""
        return True

    def estimate(self, requests: Sequence[Request], rows: int | None) -> BatchEstimate:
        """Return how many requests make a batch, whose samples are stored together."""
        return BatchEstimate(rows or self.backend.concurrency * BATCHES, 0)

    def available_bytes(self) -> None:
        """Return None: the server's memory is its own."""
        return

    def most_usd(self, prompt: Prompt, new_tokens: int) -> float | None:
        """Return an upper bound of what an answer costs; None where the price is unknown."""
        return None if self.price is None else self.price.at_most(prompt, new_tokens)

    def open(self, progress: Progress) -> Backend:
        """Connect to the server."""
        from harness.backends.openai.backend import ServerBackend, Terms

        answers = outputs_folder() / "answers" / digest([self.device, self.info.id])[:12]
        terms = Terms(
            format_of(self.backend, self.info.id, self.server_facts),
            self.server_facts,
            self.price,
            self.spending,
            answers,
            self.backend.concurrency,
        )
        return ServerBackend(Client(connection(self.backend), progress.message), terms)


def server_target(point: config.Point, once: Once) -> ServerTarget:
    """Check what a server would ignore, then ask it what it is.

    Raises:
        ConfigError: it would ignore a part of the decoding, does not answer, or lacks the model.
    """
    backend, model = point.backend, point.backend.served_model or point.model.id
    dialect = DIALECTS[backend.dialect]
    effective = effective_decoding(point.decoding)
    translation = translate(effective, dialect, backend.name)
    mistakes = [*translation.mistakes, *_refused(point, dialect)]
    if mistakes:
        raise ConfigError(mistakes)
    key = ("server", backend.model_dump_json(), model)
    server_facts = once(key, lambda: _asked(backend, dialect, model))
    mistakes = list(_not_by_provider(effective, dialect, server_facts))
    price = server_facts.price if backend.usd_per_million is None else _price(backend.usd_per_million)
    if backend.budget_usd is not None and price is None:
        cure = "add 'backend.usd_per_million=[0.15,0.60]', the prices of prompt and output"
        mistakes.append(
            Mistake(
                f"backend.budget_usd={backend.budget_usd:g}",
                f"{backend.name} does not tell its prices; {cure}",
            )
        )
    if mistakes:
        raise ConfigError(mistakes)
    request_format = format_of(backend, model, server_facts)
    return ServerTarget(
        backend=backend,
        info=once(
            (*key, "info"), lambda: ServedModel(model, server_facts.context_length, server_facts.vocab_size)
        ),
        device=str(backend.base_url),
        facts={
            "engine": ENGINE_VERSION,
            "backend": "openai",
            "dialect": dialect.name,
            "url": _place(backend, server_facts),
            "model": model,
            "server": dict(server_facts.address),
            "sent": {
                **translation.body,
                "extra": backend.extra_body or {},
                "logprobs": request_format.logprobs,
            },
        },
        tokenizer_facts=None,
        cache=None,
        notes=(
            *_precision_note(dialect.name, model, server_facts.precision),
            *dialect.notes,
            *translation.notes,
            *_notes(point, request_format),
        ),
        precision=None,
        checkpoint_precision=None,
        weight_bytes=None,
        server_facts=server_facts,
        price=price,
        spending=once(("spending", backend.budget_usd), lambda: Spending(backend.budget_usd)),
    )


def _precision_note(server: str, model: str, precision: str | None) -> tuple[str, ...]:
    """Say what a server's weights are stored in: another precision is another model."""
    return () if precision is None else (f"{server}: its {model} is stored in {precision}",)


def connection(backend: config.Backend) -> Connection:
    """Return how a server is spoken to; its key is read from the environment here and nowhere else.

    Raises:
        ConfigError: the variable with the key is not set.
    """
    key = None
    if backend.api_key_env is not None:
        key = os.environ.get(backend.api_key_env, "").strip() or None
        if key is None:
            local = is_local(str(backend.base_url))
            cure = "use backend.api_key_env=null" if local else f"export {backend.api_key_env}=..."
            message = f"this environment variable is not set; {cure}"
            raise ConfigError.of(f"backend.api_key_env={backend.api_key_env}", message)
        if not key.isascii() or not key.isprintable():
            message = "this variable holds no key: it has characters that no header may have"
            raise ConfigError.of(f"backend.api_key_env={backend.api_key_env}", message)
    return Connection(
        base_url=str(backend.base_url),
        key=key,
        headers=backend.headers or {},
        timeout=backend.timeout,
        max_retries=backend.max_retries,
        concurrency=backend.concurrency,
    )


def format_of(backend: config.Backend, model: str, server_facts: ServerFacts) -> RequestFormat:
    """Return how the requests for a model are made."""
    dialect = DIALECTS[backend.dialect]
    has_logprobs = server_facts.parameters is None or "logprobs" in server_facts.parameters
    asks = has_logprobs and dialect.alternatives != 0
    return RequestFormat(dialect, model, backend.extra_body or {}, asks, server_facts.parameters)


def _asked(backend: config.Backend, dialect: Dialect, model: str) -> ServerFacts:
    client = Client(connection(backend))
    try:
        return ask_server(client, dialect, model)
    except ServerStopError as error:
        cure = "try again once it is ready"
        if "does not answer" in str(error):
            cure = "start it, or set backend.base_url to its address"
        elif "answered 4" in str(error):
            variable = backend.api_key_env or "NAME"
            cure = f"put its key into the variable that backend.api_key_env={variable} names"
        raise ConfigError.of(f"backend={backend.name}", f"{error}; {cure}") from None
    finally:
        client.close()


def _refused(point: config.Point, dialect: Dialect) -> Iterator[Mistake]:
    """Yield what a server cannot do beside the decoding."""
    generation, server = point.generation, point.backend.name
    if generation.ignore_eos and dialect.ignore_eos is None:
        message = f"{server} always ends at EOS; use generation.ignore_eos=false"
        yield Mistake("generation.ignore_eos=true", message)
    stops = generation.stop_strings
    if dialect.most_stops is not None and len(stops) > dialect.most_stops:
        yield Mistake(
            "generation.stop_strings", f"{server} takes {dialect.most_stops} at most; leave some out"
        )
    most, asked = dialect.alternatives, point.record.top_k
    if most and asked > most:
        message = f"{server} returns {most} alternatives at most; use record.top_k={most}"
        yield Mistake(f"record.top_k={asked}", message)
    if point.record.prompt_logprobs:
        message = f"{server} does not score prompts; use record.prompt_logprobs=false"
        yield Mistake("record.prompt_logprobs=true", message)


def _not_by_provider(
    effective: Mapping[str, Any], dialect: Dialect, server_facts: ServerFacts
) -> Iterator[Mistake]:
    """Yield fields that no provider of the model takes, where the server tells that."""
    if server_facts.parameters is None:
        return
    body = translate(effective, dialect).body
    for name, key in dialect.fields.items():
        sent = body.get(key) != dialect.neutral.get(key)
        if sent and key not in server_facts.parameters and key not in _SENT_ANYWAY:
            message = f"no provider of this model takes {key}; use decoding.{name}=null, or another model"
            yield Mistake(f"decoding.{name}={json.dumps(effective.get(name))}", message)


def _notes(point: config.Point, request_format: RequestFormat) -> Iterator[str]:
    if not request_format.logprobs and request_format.dialect.alternatives != 0:
        none = f"no provider of {request_format.model} returns logprobs"
        yield f"{point.backend.name}: {none}: probabilities stay empty"
    elif request_format.logprobs and request_format.dialect.logprobs == "unknown":
        yield (
            f"{point.backend.name}: whether its logprobs are before or after penalties, temperature and "
            "truncation is not known; `harness doctor` with the same keys finds out"
        )


def _price(per_million: tuple[float, float]) -> Price:
    return Price(per_million[0] / 1e6, per_million[1] / 1e6)


def _place(backend: config.Backend, server_facts: ServerFacts) -> str:
    """Return a server's address; of one on this machine that tells its model and version, nothing else."""
    url = str(backend.base_url).rstrip("/")
    known = {"version", "digest"} & server_facts.address.keys()
    return "local" if is_local(url) and known else url
