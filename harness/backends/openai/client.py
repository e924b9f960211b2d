"""A client of a server: one request at a time, repeated only where nothing was answered yet.

Built on httpx2. What a server refuses, or cannot do now, has one line with the server's own words.
"""

from __future__ import annotations

import email.utils
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness import __version__
from harness.backends.openai.server_answer import Answer, AnswerBuilder, AnswerError, error_text
from harness.config.secret_text import HIDDEN
from harness.errors import HarnessError

if TYPE_CHECKING:
    import httpx2

FIRST_WAIT, LONGEST_WAIT = 1.0, 120.0
"""Seconds before the first repetition of a request, and at most; they double in between."""
CONNECT_S = 10.0
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_STOPS = {401, 402, 403}
_SIGNED = {401: "the key is not accepted", 402: "there is no credit left", 403: "access is refused"}


class RequestError(HarnessError):
    """A request that a server did not answer; others may fare better."""


class ServerStopError(HarnessError):
    """Nothing that is sent to this server will be answered: it is gone, or refuses the key."""


class StoppedError(HarnessError):
    """The work was called off while a request waited."""


@dataclass(frozen=True)
class Connection:
    """How a server is spoken to.

    Attributes:
        base_url: of the API.
        key: sent as a bearer token; None without one. Never shown.
        headers: further ones.
        timeout: seconds without a byte.
        max_retries: of a request.
        concurrency: requests at once.
    """

    base_url: str
    key: str | None
    headers: Mapping[str, str]
    timeout: float
    max_retries: int
    concurrency: int

    def __repr__(self) -> str:
        return f"Connection({self.base_url})"


class Client:
    """Sends requests from several threads.

    Args:
        connection: the server.
        on_message: gets a line when all requests wait.
    """

    def __init__(self, connection: Connection, on_message: Callable[[str], None] = lambda line: None) -> None:
        import httpx2

        self.connection = connection
        self.retried = 0
        self.stopped = threading.Event()
        self._on_message = on_message
        self._resume_at = 0.0
        self._lock = threading.Lock()
        headers = {"User-Agent": f"decoding-harness/{__version__}", **connection.headers}
        if connection.key is not None:
            headers["Authorization"] = f"Bearer {connection.key}"
        self._http = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(connection.timeout, connect=min(connection.timeout, CONNECT_S), pool=None),
            limits=httpx2.Limits(
                max_connections=connection.concurrency + 2, max_keepalive_connections=connection.concurrency
            ),
            # A server on this machine is reached without a proxy.
            trust_env=not is_local(connection.base_url),
        )

    def close(self) -> None:
        """Close its connections; requests that wait end."""
        self.stopped.set()
        self._http.close()

    def get(self, path: str) -> Any:
        """Return the JSON that is at an address of the server; None where there is none.

        Args:
            path: below `base_url`, or from the server's root where it begins with `//`.

        Raises:
            ServerStopError: the server does not answer now, or refuses the key.
        """
        import httpx2

        base = self.connection.base_url.rstrip("/")
        if path.startswith("//"):
            parts = urlsplit(base)
            base, path = f"{parts.scheme}://{parts.netloc}", path[1:]
        try:
            response = self._http.get(base + path, timeout=min(self.connection.timeout, CONNECT_S))
        except httpx2.HTTPError as error:
            raise ServerStopError(self._unreachable(error)) from None
        if response.status_code in _STOPS:
            raise ServerStopError(self._refusal(response.status_code, response.content))
        if response.status_code in _AGAIN:  # what it would say is not known, and is part of addresses
            words = self._safe(_words(response.content))
            raise ServerStopError(f"{self._where()} answered {response.status_code}: {words}")
        if response.status_code != 200:
            return None
        try:
            return response.json()
        except ValueError:
            return None

    def ask(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Return the answer to a request; one that was cut off after its first text has an `error`.

        Raises:
            RequestError: there is none, and repeating it would not help or was tried.
            ServerStopError: no other request would be answered either.
            StoppedError: the client was closed.
        """
        attempts, raced = 0, False
        while True:
            self._wait()
            attempts += 1
            again = self._once(path, body, reused=not raced)
            if isinstance(again, Answer):
                return replace(again, attempts=attempts)
            if again.raced:  # the server had closed a connection that was kept: nothing was processed
                raced = True
            if attempts > self.connection.max_retries + raced:
                tried = f" ({attempts} attempts)" if attempts > 1 else ""
                raise again.final(f"{again.reason}{tried}") from None
            with self._lock:
                self.retried += 1
            if not again.raced:
                self._delay(again, attempts)

    def _once(self, path: str, body: Mapping[str, Any], *, reused: bool) -> Answer | _Again:
        import httpx2

        builder, started = AnswerBuilder(time.time()), time.perf_counter()
        begun = False
        try:
            url = self.connection.base_url.rstrip("/") + path
            with self._http.stream("POST", url, json=body) as response:
                if response.status_code != 200:
                    return self._status(response.status_code, response.read(), response.headers)
                if "event-stream" not in response.headers.get("content-type", ""):
                    builder.add(_parsed(response.read()), time.perf_counter() - started)
                    builder.done = True
                    return builder.answer(time.time())
                for data in events(response.iter_bytes()):
                    begun = True
                    if data == "[DONE]":
                        builder.done = True
                        break
                    builder.add(_parsed(data), time.perf_counter() - started)
                if not begun:
                    return _Again(f"{self._where()}: it closed the connection unanswered", RequestError)
                return builder.answer(time.time())
        except AnswerError as error:
            if builder.has_text:
                return builder.answer(time.time(), self._safe(str(error)))
            raise RequestError(f"{self._where()} answered: {self._safe(str(error))}") from None
        except (httpx2.TransportError, httpx2.StreamError, RuntimeError) as error:
            if self.stopped.is_set():
                raise StoppedError("stopped") from None
            if isinstance(error, RuntimeError) and not isinstance(error, httpx2.StreamError):
                raise
            reason = self._reason(error)
            if builder.has_text:
                return builder.answer(time.time(), reason)
            if begun:
                raise RequestError(f"{self._where()}: {reason} before any text came") from None
            text = f"{self._where()}: {reason}"
            if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
                return _Again(self._unreachable(error), ServerStopError)
            raced = reused and isinstance(error, httpx2.RemoteProtocolError) and "disconnected" in str(error)
            return _Again(text, RequestError, raced=raced)

    def _status(self, status: int, content: bytes, headers: httpx2.Headers) -> _Again:
        """Return how an answer that is none is repeated.

        Raises:
            RequestError, ServerStopError: it is not.
        """
        if status in _STOPS:
            raise ServerStopError(self._refusal(status, content))
        reason = f"{self._where()} answered {status}: {self._safe(_words(content))}"
        if status not in _AGAIN:
            raise RequestError(reason)
        final = ServerStopError if status == 429 else RequestError
        return _Again(reason, final, wait=_retry_after(headers), shared=status == 429)

    def _wait(self) -> None:
        """Wait while all requests do."""
        while not self.stopped.is_set():
            with self._lock:
                left = self._resume_at - time.monotonic()
            if left <= 0:
                return
            self.stopped.wait(left)
        raise StoppedError("stopped")

    def _delay(self, again: _Again, attempts: int) -> None:
        """Wait before a repetition; after a 429 all requests wait."""
        backoff = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempts - 1)) * random.uniform(0.75, 1.25)
        seconds = backoff if again.wait is None else min(LONGEST_WAIT, again.wait)
        if not again.shared:
            self.stopped.wait(seconds)
            return
        with self._lock:
            resume = time.monotonic() + seconds
            announced = self._resume_at > time.monotonic()
            self._resume_at = max(self._resume_at, resume)
        if not announced and seconds >= 1:
            self._on_message(f"{again.reason}; all requests wait for {seconds:.0f} s")

    def _unreachable(self, error: Exception) -> str:
        return f"{self._where()} does not answer ({self._reason(error)})"

    def _refusal(self, status: int, content: bytes) -> str:
        words = self._safe(_words(content))
        return f"{self._where()} answered {status}, {_SIGNED[status]}: {words}"

    def _where(self) -> str:
        return self.connection.base_url

    def _reason(self, error: Exception) -> str:
        words = " ".join(str(error).split()) or type(error).__name__
        named = {
            "ReadTimeout": f"no byte for {self.connection.timeout:g} s",
            "ConnectTimeout": "no connection in time",
        }
        return self._safe(named.get(type(error).__name__, words))[:200]

    def _safe(self, text: str) -> str:
        """Return a text without the key, which a server may repeat."""
        return text.replace(self.connection.key, HIDDEN) if self.connection.key else text


@dataclass(frozen=True)
class _Again:
    """A request that may be repeated: why, what is raised in the end, and the wait that was asked for."""

    reason: str
    final: type[HarnessError]
    wait: float | None = None
    shared: bool = False
    raced: bool = False


def is_local(url: str) -> bool:
    """Return whether an address is of this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def events(chunks: Iterator[bytes]) -> Iterator[str]:
    """Yield the data of server-sent events; a character may be split between chunks."""
    left, data = b"", list[str]()
    for chunk in chunks:
        *lines, left = (left + chunk).split(b"\n")
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].strip().decode("utf-8", "replace"))
            elif not line and data:
                yield "\n".join(data)
                data = []
    if left.startswith(b"data:"):
        data.append(left[5:].strip().decode("utf-8", "replace"))
    if data:
        yield "\n".join(data)


def _parsed(content: bytes | str) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
        raise AnswerError(f"what is no JSON: {' '.join(text.split())[:80]!r}") from None


def _words(content: bytes) -> str:
    try:
        return error_text(json.loads(content))
    except ValueError:
        return " ".join(content.decode("utf-8", "replace").split())[:200] or "nothing"


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Return the seconds that `Retry-After` asks for, a number or a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
