"""An answer as its parts arrive: text, tokens with their probabilities, what ended it, usage, times.

Both formats are read: of completions (legacy: lists of tokens, and alternatives by text) and of chats
(`content`, a list of entries), in whole bodies and in streams. What is not there is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

_TEXT_LIMIT = 300


class AnswerError(Exception):
    """What a server sent is no answer; the message is one line."""


@dataclass(frozen=True)
class Entry:
    """A token as a server names it: its text, bytes, id and logprob; None where they are not told."""

    text: str
    logprob: float | None
    id: int | None = None
    bytes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Step:
    """A generated token and its alternatives."""

    chosen: Entry
    top: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a server answered to one request.

    Attributes:
        text: of the answer.
        finish: the server's `finish_reason`; None where the answer was cut off, or it tells none.
        stop_reason: vLLM's: the stop string or token that ended it.
        steps: a token each; empty where no logprobs came.
        token_ids: where they come apart from logprobs.
        usage: as it came.
        chunks: seconds from sending to each part with text.
        sent, ended: seconds since the epoch.
        attempts: requests that it took.
        model, provider, fingerprint, request_id: as the server names them.
        reasoning: text that came apart from the answer.
        error: what cut it off, in one line.
    """

    text: str
    finish: str | None
    sent: float
    ended: float
    stop_reason: str | int | None = None
    steps: tuple[Step, ...] = ()
    token_ids: tuple[int, ...] = ()
    usage: Mapping[str, Any] = field(default_factory=dict)
    chunks: tuple[float, ...] = ()
    attempts: int = 1
    model: str | None = None
    provider: str | None = None
    fingerprint: str | None = None
    request_id: str | None = None
    reasoning: str = ""
    error: str | None = None

    @property
    def output_tokens(self) -> int | None:
        """How many tokens the server counted, or told one by one."""
        counted = self.usage.get("completion_tokens")
        if isinstance(counted, int):
            return counted
        return len(self.steps) or len(self.token_ids) or None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Answer:
        """Read what `to_json` returned."""

        def entry(one: Mapping[str, Any]) -> Entry:
            return Entry(**{**one, "bytes": None if one["bytes"] is None else tuple(one["bytes"])})

        steps = tuple(Step(entry(one["chosen"]), tuple(map(entry, one["top"]))) for one in values["steps"])
        tuples = {name: tuple(values[name]) for name in ("token_ids", "chunks")}
        return cls(**{**values, **tuples, "steps": steps})


class AnswerBuilder:
    """Collects the events of one answer.

    Args:
        sent: when the request was sent, seconds since the epoch.
    """

    def __init__(self, sent: float) -> None:
        self._sent = sent
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._steps: list[Step] = []
        self._ids: list[int] = []
        self._chunks: list[float] = []
        self._facts: dict[str, Any] = {}
        self._usage: Mapping[str, Any] = {}
        self._finish: str | None = None
        self._stop_reason: str | int | None = None
        self.done = False
        """Set when the server said that nothing more comes."""

    @property
    def has_text(self) -> bool:
        """Whether a part of the answer came already."""
        return bool(self._chunks)

    def add(self, event: Any, after: float) -> None:
        """Add a body, or an event of a stream, that came so many seconds after the request was sent.

        Raises:
            AnswerError: it is an error object, or none of the forms.
        """
        if not isinstance(event, dict):
            raise AnswerError("its JSON is no object")
        if event.get("error"):
            raise AnswerError(error_text(event))
        for name, key in (
            ("model", "model"),
            ("provider", "provider"),
            ("fingerprint", "system_fingerprint"),
            ("request_id", "id"),
        ):
            if isinstance(event.get(key), str):
                self._facts[name] = event[key]
        if isinstance(event.get("usage"), dict):
            self._usage = event["usage"]
        choices = event.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            self._choice(choices[0], after)

    def _choice(self, choice: Mapping[str, Any], after: float) -> None:
        if choice.get("error"):
            raise AnswerError(error_text(choice))
        message = choice.get("delta") or choice.get("message") or {}
        text = choice.get("text") if "text" in choice else message.get("content")
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        if isinstance(reasoning, str):
            self._reasoning.append(reasoning)
        steps = read_steps(choice.get("logprobs"))
        ids = choice.get("token_ids") or ()
        if isinstance(text, str) and text:
            self._text.append(text)
        if (isinstance(text, str) and text) or steps or ids:
            self._chunks.append(after)
        self._steps += steps
        self._ids += [one for one in ids if isinstance(one, int)]
        if choice.get("finish_reason") is not None:
            self._finish = str(choice["finish_reason"])
            self._stop_reason = choice.get("stop_reason")

    def answer(self, ended: float, error: str | None = None) -> Answer:
        """Return the answer; `error` is what cut it off.

        Raises:
            AnswerError: there is neither a text nor an end, which no empty text may stand for.
        """
        if error is None and self._finish is None and not self.done:
            error = "the answer ended before its end"
        if not self.has_text and (error is not None or self._finish is None):
            raise AnswerError(error or "it has no choices")
        return Answer(
            text="".join(self._text),
            finish=None if error else self._finish,
            sent=self._sent,
            ended=ended,
            stop_reason=self._stop_reason,
            steps=tuple(self._steps),
            token_ids=tuple(self._ids),
            usage=self._usage,
            chunks=tuple(self._chunks),
            reasoning="".join(self._reasoning),
            error=error,
            **self._facts,
        )


def error_text(body: Any) -> str:
    """Return a server's own words for an error, in one line."""
    found = body
    for key in ("error", "detail", "message"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    if isinstance(found, dict) and "message" in found:
        found = found["message"]
    return " ".join(str(found).split())[:_TEXT_LIMIT]


def read_steps(logprobs: Any) -> list[Step]:
    """Return the tokens of a `logprobs` object of either format; none where it is null or of neither."""
    if not isinstance(logprobs, dict):
        return []
    if isinstance(logprobs.get("content"), list):
        return [_chat_step(one) for one in logprobs["content"] if isinstance(one, dict)]
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        return []
    tops: Sequence[Any] = logprobs.get("top_logprobs") or [None] * len(tokens)
    return [
        Step(Entry(str(text), _number(value)), _legacy_top(top))
        for text, value, top in zip(tokens, values, tops, strict=False)
    ]


def _chat_step(one: Mapping[str, Any]) -> Step:
    return Step(_entry(one), tuple(_entry(other) for other in one.get("top_logprobs") or ()))


def _entry(one: Mapping[str, Any]) -> Entry:
    octets = one.get("bytes")
    return Entry(
        text=str(one.get("token", "")),
        logprob=_number(one.get("logprob")),
        id=one["id"] if isinstance(one.get("id"), int) else None,
        bytes=tuple(octets) if isinstance(octets, list) else None,
    )


def _legacy_top(top: Any) -> tuple[Entry, ...]:
    """Return alternatives by text; two of equal text are one there."""
    if not isinstance(top, dict):
        return ()
    return tuple(Entry(str(text), _number(value)) for text, value in top.items())


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
