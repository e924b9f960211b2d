"""Probes: what a server really does with what it is sent, by pairs of requests that must agree or differ.

Servers answer 200 to keys that they do not know. So each field is tried at a value that leaves the likeliest
token alone, at a temperature at which plain sampling would take others: the text must be the greedy one. A
penalty, without sampling, must change a text that repeats itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from harness.backends.openai.client import RequestError
from harness.backends.openai.dialect import Dialect
from harness.backends.openai.requests import RequestFormat
from harness.backends.openai.server_answer import Answer
from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.decoding.strategy import Strategy

Verdict = Literal["yes", "no", "unclear"]
Ask = Callable[[Mapping[str, Any]], Answer]

RAW = "logprobs before temperature"
"""The finding that logprobs are those of the model."""
_TOKENS = 12
_REPEATED = "one two three one two three one two three one two three one two"
_ALONE: Mapping[str, Any] = {
    "top_k": 1, "top_p": 1e-6, "min_p": 1.0, "top_n_sigma": 1e-3, "epsilon_cutoff": 0.999, "top_h": 1e-6,
}  # fmt: skip
"""Values at which a truncation leaves the likeliest token alone."""
_CHANGED: Mapping[str, Any] = {
    "typical_p": 0.01, "eta_cutoff": 0.999, "top_a": 1.0, "tfs": 0.01, "xtc_probability": 1.0,
    "mirostat_mode": 2, "smoothing_factor": 5.0,
}  # fmt: skip
"""Values at which a sampler draws something else with the same seed."""
_PENALTIES: Mapping[str, Any] = {
    "repetition_penalty": 3.0, "presence_penalty": 2.0, "frequency_penalty": 2.0, "dry_multiplier": 5.0,
    "no_repeat_ngram_size": 2,
}  # fmt: skip
_SAME_SPAN = 0.1
"""Of a span of logprobs, what rounding and other company may change."""
_LEAST_SPAN = 0.05
"""Alternatives that are closer than this show nothing."""


@dataclass(frozen=True)
class Finding:
    """What a probe found: of what, whether it is so, and what was seen."""

    what: str
    verdict: Verdict
    seen: str


def probe(request_format: RequestFormat, prompt: str, ask: Ask) -> Iterator[Finding]:
    """Yield findings as they come.

    Args:
        request_format: how requests of the server are made.
        prompt: to be continued.
        ask: sends a body and returns the answer.

    Raises:
        RequestError: the plainest request is not answered.
    """
    probes = _Probes(request_format, prompt, ask)
    greedy = probes.text()
    again = probes.text()
    yield _finding("greedy decoding repeats", greedy == again, "the same text twice", "two texts")
    hot = probes.text(seed=1, temperature=1.5)
    yield _finding(
        "sampling", hot != greedy, "another text than greedy", "the greedy text at temperature 1.5"
    )
    if hot == greedy:
        return
    same = probes.text(seed=1, temperature=1.5) == hot
    other = probes.text(seed=2, temperature=1.5) != hot
    seen = {(True, True): "repeats, and another seed differs", (False, True): "the same seed twice differs"}
    yield Finding(
        "seed", "yes" if same and other else "no", seen.get((same, other), "other seeds change nothing")
    )
    for name, value in _ALONE.items():
        if name in request_format.dialect.takes and name not in request_format.dialect.forced:
            found = probes.text(seed=1, temperature=1.5, **{name: value})
            text = f"at {value:g} the greedy text"
            yield _finding(f"decoding.{name}", found == greedy, text, f"at {value:g} not the greedy text")
    for name, value in _CHANGED.items():
        if name in request_format.dialect.takes:
            found = probes.text(seed=1, temperature=1.5, **{name: value})
            verdict: Verdict = "unclear" if not same else "yes" if found != hot else "no"
            yield Finding(
                f"decoding.{name}", verdict, "changes the text" if found != hot else "changes nothing"
            )
    repeated = probes.text(prompt=_REPEATED)
    for name, value in _PENALTIES.items():
        if name in request_format.dialect.takes:
            changed = probes.text(prompt=_REPEATED, **{name: value}) != repeated
            if changed or _repeats(_REPEATED, repeated):
                yield _finding(f"decoding.{name}", changed, "changes a repetition", "changes nothing")
            else:
                yield Finding(f"decoding.{name}", "unclear", "the text does not repeat itself without it")
    yield from probes.logprobs()
    yield probes.unknown_keys()


def _repeats(prompt: str, text: str) -> bool:
    """Return whether a text has two words in a row that were there before."""
    words = [*prompt.split(), *text.split()]
    pairs = list(pairwise(words))
    start = len(prompt.split())
    return any(pair in pairs[:at] for at, pair in enumerate(pairs) if at >= start)


def _finding(what: str, holds: bool, yes: str, no: str) -> Finding:
    return Finding(what, "yes" if holds else "no", yes if holds else no)


def _raw_or_not(at_1: float, at_half: float) -> Finding:
    """Judge by how far the alternatives are apart: half the temperature doubles that, if it acts on them.

    The likeliest token's logprob alone would not do: where it is near 0, it is near 0 at all temperatures.
    """
    seen = f"the alternatives span {at_1:.3f} at temperature 1, {at_half:.3f} at 0.5"
    verdict: Verdict = "yes" if abs(at_1 - at_half) < _SAME_SPAN * at_1 else "no"
    return Finding(RAW, "unclear" if at_1 < _LEAST_SPAN else verdict, seen)


class _Probes:
    """The requests of one server."""

    def __init__(self, request_format: RequestFormat, prompt: str, ask: Ask) -> None:
        self._wording = request_format
        self._prompt = prompt
        self._ask = ask

    def text(self, prompt: str | None = None, seed: int | None = None, **fields: Any) -> str:
        """Return the answer's text under a strategy, sampled where a seed is given."""
        return self._ask(self._body(prompt, seed, _TOKENS, fields)).text

    def logprobs(self) -> Iterator[Finding]:
        """Yield what logprobs are of, how many alternatives come, and whether ids do."""
        dialect = self._wording.dialect
        if not self._wording.logprobs:
            yield Finding("logprobs", "no", "it has none")
            return
        count = dialect.alternatives or 20
        spans = []
        for temperature in (1.0, 0.5):
            body = self._body(None, 1, 1, {"temperature": temperature, **_forced(dialect)})
            try:
                steps = self._ask({**body, "logprobs": count}).steps
            except RequestError as error:
                yield Finding("logprobs", "no", str(error))
                return
            told = [one.logprob for one in steps[0].top if one.logprob is not None] if steps else []
            if not told:
                yield Finding("logprobs", "no", "none came")
                return
            spans.append(max(told) - min(told))
        yield _raw_or_not(*spans)
        yield _finding(
            "alternatives", len(steps[0].top) >= count, f"{count} came", f"{len(steps[0].top)} came"
        )
        answer = self._ask({**self._body(None, None, _TOKENS, {}), "logprobs": 1})
        ids = bool(answer.token_ids) or all(step.chosen.id is not None for step in answer.steps)
        yield _finding("token ids", ids, "with each token", "texts alone")
        joined = len(answer.steps) == len(answer.chunks)
        yield _finding("one token in each part of a stream", joined, "as many", f"{len(answer.chunks)} parts")

    def unknown_keys(self) -> Finding:
        """Return whether a key that no server has is refused."""
        try:
            self._ask({**self._body(None, None, 1, {}), "frobnicate": 1})
        except RequestError as error:
            return Finding("unknown keys are refused", "yes", str(error)[-80:])
        return Finding("unknown keys are refused", "no", "ignored without a word")

    def _body(self, prompt: str | None, seed: int | None, tokens: int, fields: Mapping[str, Any]) -> Any:
        window = {"penalty_last_n": -1} if _needs_window(self._wording.dialect, fields) else {}
        sampled = seed is not None
        forced = _forced(self._wording.dialect) if sampled else {}
        decoding = Decoding(name="probe", do_sample=sampled, **{**forced, **fields, **window})
        strategy = Strategy(effective_decoding(decoding), tokens, 0, (), (-1,), 0, 0)
        body = {**self._wording.sampling(strategy), "prompt": self._prompt if prompt is None else prompt}
        return body if seed is None else {**body, "seed": seed}


def _forced(dialect: Dialect) -> dict[str, Any]:
    return dict(dialect.forced)


def _needs_window(dialect: Dialect, fields: Mapping[str, Any]) -> bool:
    counted = {"presence_penalty", "frequency_penalty"} & set(fields)
    return dialect.name == "llama_cpp" and bool(counted)
