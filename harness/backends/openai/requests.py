"""From a request of the harness to the one that is sent: where to, and its JSON body."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.backends.backend import Request
from harness.backends.openai.dialect import Dialect
from harness.backends.openai.translate import translate
from harness.decoding.strategy import Strategy
from harness.prompts.prompt import Prompt

BATCHES = 16
"""Requests of a batch for each that is sent at once: the samples of a batch are stored together."""


@dataclass(frozen=True)
class Outgoing:
    """A request as it is sent: below which path of the API, with which body."""

    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class RequestFormat:
    """How the requests of one server and model are made.

    Attributes:
        dialect: of the server.
        model: its name there.
        extra_body: the user's own keys, merged into every body.
        logprobs: whether they are asked for.
        parameters: keys that a provider of the model takes; None where that is not known. Others are not even
            sent at their neutral values: they might rule out every provider.
    """

    dialect: Dialect
    model: str
    extra_body: Mapping[str, Any]
    logprobs: bool
    parameters: tuple[str, ...] | None = None

    def sampling(self, strategy: Strategy) -> dict[str, Any]:
        """Return the keys that all requests of a strategy have in common."""
        translated = translate(strategy.effective, self.dialect).body
        body: dict[str, Any] = {"model": self.model}
        body |= {key: value for key, value in translated.items() if self._is_taken(key, value)}
        body["max_tokens"] = strategy.max_new_tokens
        if strategy.stop_strings:
            body["stop"] = list(strategy.stop_strings)
        body["stream"] = True
        if self.dialect.streams_usage:
            body["stream_options"] = {"include_usage": True}
        for key, value in self.extra_body.items():
            mine = body.get(key)
            body[key] = {**mine, **value} if isinstance(mine, dict) and isinstance(value, dict) else value
        return body

    def _is_taken(self, key: str, value: Any) -> bool:
        neutral = self.dialect.neutral
        return self.parameters is None or key in self.parameters or neutral.get(key, self) != value

    def outgoing(self, request: Request, *, ignore_eos: bool) -> Outgoing:
        """Return the request for a sample."""
        strategy, prompt = request.strategy, request.prompt
        body = self.sampling(strategy)
        if ignore_eos:
            body |= dict(self.dialect.ignore_eos or {})
        if strategy.do_sample:
            body["seed"] = sample_seed(strategy.seed, prompt.id, request.sample)
        if self.logprobs:
            body |= self._logprobs(strategy.top_k, chat=prompt.chat)
        return Outgoing(_path(prompt), body | _prompt(prompt))

    def timed(self, request: Request, new_tokens: int) -> Outgoing:
        """Return a request whose answer is timed: without logprobs, if possible of so many tokens."""
        strategy, prompt = request.strategy, request.prompt
        body = self.sampling(strategy) | {
            "max_tokens": new_tokens,
            **self.dialect.timed,
        }
        body.pop("stop", None)
        if strategy.do_sample:
            body["seed"] = sample_seed(strategy.seed, prompt.id, request.sample)
        return Outgoing(_path(prompt), body | _prompt(prompt))

    def _logprobs(self, top_k: int, *, chat: bool) -> dict[str, Any]:
        most = self.dialect.alternatives
        count = top_k if most is None else min(top_k, most)
        if chat:
            return {"logprobs": True, "top_logprobs": count}
        # llama.cpp returns none where no alternative is asked for.
        return {"logprobs": max(1, count) if self.dialect.name == "llama_cpp" else count}


def sample_seed(seed: int, prompt_id: str, sample: int) -> int:
    """Return the seed of one sample: the same for every strategy, another one for every sample."""
    text = f"{seed}\n{sample}\n{prompt_id}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big") >> 1


def _path(prompt: Prompt) -> str:
    return "/chat/completions" if prompt.chat else "/completions"


def _prompt(prompt: Prompt) -> dict[str, Any]:
    if not prompt.chat:
        return {"prompt": prompt.text}
    tools = prompt.row.get("tools")
    messages = [dict(turn) for turn in prompt.turns]
    return {"messages": messages, **({"tools": tools} if isinstance(tools, list) and tools else {})}
