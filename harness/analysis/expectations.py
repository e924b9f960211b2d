"""Check the expectations of a sweep against its stored points; nothing is run.

Entries of `expect` are plain dicts with the fields of `harness.config.expectation`. Each thing that an entry
asks is checked by itself, at each point and prompt that it applies to; what cannot be looked up is missed,
with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.config.expectation import ASKED, matches
from harness.config.suggest import did_you_mean
from harness.store.stored_point import StoredPoint, stored_point
from harness.store.sweeps import Sweep, SweepPoint

ROUNDING = 1e-6
"""Logprobs are stored in float32: how far a probability may be off from that alone."""
MAX_SHOWN = {str: 80, tuple: 16}
"""How much is shown of an expected text (characters) or list of token ids."""
CONTEXT = {str: 20, tuple: 4}
"""How much is shown before the first difference; after it twice as much."""

Outcome = tuple[bool, str]
"""Whether an expectation was met, and what was found instead or as expected, in one line."""

TokenIds = Mapping[str, tuple[int | None, ...]]
"""Token ids by prompt."""

Sequenced = str | tuple[int, ...]
"""A text, or a list of token ids."""


@dataclass(frozen=True)
class CheckedExpectation:
    """One thing expected of one point, and of one prompt where it is about a prompt.

    Attributes:
        label: the point's label.
        prompt_id: the prompt's id; None where it is about the whole point, or its prompts are not known.
        text: what was expected, in one line.
        passed: whether it was found.
        got: what was found, in one line; for a text or list, where it first differs.
    """

    label: str
    prompt_id: str | None
    text: str
    passed: bool
    got: str

    @property
    def line(self) -> str:
        """The expectation and what was found, in one line."""
        where = f"{self.prompt_id}: " if self.prompt_id is not None else ""
        return f"{where}expected {self.text}; got {self.got}"


def check_expectations(sweep: Sweep) -> tuple[CheckedExpectation, ...]:
    """Check everything expected of every point, point by point."""
    return tuple(checked for point in sweep.points for checked in check_point(sweep, point))


def check_point(sweep: Sweep, point: SweepPoint) -> tuple[CheckedExpectation, ...]:
    """Check everything expected of one point, in the order of `expect`."""
    entries = [entry for entry in sweep.expect if matches(entry.get("point"), point.label)]
    if not entries:
        return ()
    stored = stored_point(sweep.folder.parent.parent, point.point_id)
    if problem := _missing(point, stored):
        return tuple(
            CheckedExpectation(point.label, None, _expected(asked, entry), False, problem)
            if asked == "metric"
            else CheckedExpectation(point.label, entry.get("prompt"), _expected(asked, entry), False, problem)
            for entry in entries
            for asked in _asked(entry)
        )
    # Many entries need the same table, which is read once per point.
    look_up = cache(lambda name, *arguments: LOOK_UPS[name](stored, *arguments))
    prompts = dict.fromkeys(stored.columns("generations", ["prompt_id"])["prompt_id"])
    checked: list[CheckedExpectation] = []
    for entry in entries:
        for asked in _asked(entry):
            text = _expected(asked, entry)
            if asked == "metric":
                passed, got = _metric(entry, look_up("metrics"))
                checked.append(CheckedExpectation(point.label, None, text, passed, got))
                continue
            for prompt in prompts if entry.get("prompt") is None else [entry["prompt"]]:
                if prompt in prompts:
                    passed, got = _check(asked, entry, prompt, look_up)
                    checked.append(CheckedExpectation(point.label, prompt, text, passed, got))
    return tuple(checked)


def missed(checked: Sequence[CheckedExpectation]) -> list[CheckedExpectation]:
    """Return those that did not pass."""
    return [one for one in checked if not one.passed]


def check_summary(checked: Sequence[CheckedExpectation]) -> str:
    """Return `3 passed`, or `1 of 3 missed`."""
    count = len(missed(checked))
    return f"{count} of {len(checked)} missed" if count else f"{len(checked)} passed"


def _asked(entry: Mapping[str, Any]) -> Iterator[str]:
    return (name for name in ASKED if entry.get(name) is not None)


def _missing(point: SweepPoint, stored: StoredPoint) -> str:
    """Return why nothing of a point is stored; empty when it is."""
    if point.status == "failed":
        return f"nothing, the point failed: {point.error}"
    if point.status not in ("done", "reused"):
        return "nothing, the point was not run"
    if not stored.has("generations.parquet"):
        return "nothing, the point is no longer in the store"
    return ""


# Expectations as text -------------------------------------------------------------------------------


def _expected(asked: str, entry: Mapping[str, Any]) -> str:
    """Return one thing that an entry asks, in one line."""
    value = entry[asked]
    name = asked.replace("_", " ")
    if asked == "metric":
        bounds = [
            f"{bound} {entry[key]:g}"
            for key, bound in (("min", "at least"), ("max", "at most"))
            if entry.get(key) is not None
        ]
        return f"{value} {' and '.join(bounds)}"
    if asked == "top":
        tokens = ", ".join(f"{_quoted(token)} {probability:g}" for token, probability in value.items())
        return f"top {tokens} (within {entry['tolerance']:g}) at position {entry['position']}{_sample(entry)}"
    return f"{name} {_excerpt(_sequence(value))}{'' if asked.startswith('prompt') else _sample(entry)}"


def _sample(entry: Mapping[str, Any]) -> str:
    return f" of sample {entry['sample']}" if entry.get("sample") else ""


# Stored values -----------------------------------------------------------------------------------

LookUp = Callable[..., Any]


def _outputs(stored: StoredPoint, sample: int) -> dict[str, str]:
    """Return, by prompt, the text of a sample."""
    columns = stored.columns("generations", ["prompt_id", "output"], [("sample", "=", sample)])
    return dict(zip(columns["prompt_id"], columns["output"], strict=True))


def _output_ids(stored: StoredPoint, sample: int) -> TokenIds:
    """Return, by prompt, the token ids of a sample, an EOS that ended it included."""
    return _by_prompt(stored.columns("tokens", ["prompt_id", "token_id"], [("sample", "=", sample)]))


def _prompt_ids(stored: StoredPoint) -> TokenIds:
    """Return, by prompt, its own token ids."""
    if not stored.has("prompt_tokens.parquet"):
        return {}
    return _by_prompt(stored.columns("prompt_tokens", ["prompt_id", "token_id"]))


def _by_prompt(columns: Mapping[str, Sequence[Any]]) -> TokenIds:
    """Return the ids of each prompt that has them all."""
    found: dict[str, list[int | None]] = {}
    for prompt, token in zip(columns["prompt_id"], columns["token_id"], strict=True):
        found.setdefault(prompt, []).append(token)
    return {prompt: tuple(tokens) for prompt, tokens in found.items() if None not in tokens}


def _alternatives(
    stored: StoredPoint, sample: int, position: int
) -> dict[str, list[tuple[str, float]] | None]:
    """Return, by prompt, texts and raw probabilities of the alternatives at a step, likeliest first.

    None where the step has no recorded alternatives.
    """
    names = ["prompt_id", "top_tokens", "top_logprobs"]
    columns = stored.columns("tokens", names, [("sample", "=", sample), ("position", "=", position)])
    return {
        prompt: [(token, math.exp(logprob)) for token, logprob in zip(tokens, logprobs, strict=True)]
        if tokens and logprobs
        else None
        for prompt, tokens, logprobs in zip(*(columns[name] for name in names), strict=True)
    }


def _metrics(stored: StoredPoint) -> dict[str, float]:
    return stored.metrics()["metrics"] if stored.has("metrics.json") else {}


LOOK_UPS: dict[str, Callable[..., Any]] = {
    "output": _outputs,
    "output_ids": _output_ids,
    "prompt_ids": _prompt_ids,
    "alternatives": _alternatives,
    "metrics": _metrics,
}


# Comparison with the expectation ------------------------------------------------------------------------


def _check(asked: str, entry: Mapping[str, Any], prompt: str, look_up: LookUp) -> Outcome:
    """Check one thing that an entry asks about a prompt."""
    sample = entry["sample"]
    name = asked.removesuffix("_start")
    if name == "prompt_ids":
        found = look_up(name).get(prompt)
        problem = "the prompt's ids were not recorded; record.prompt_logprobs=true records them"
    elif prompt not in look_up("output", sample):
        found, problem = None, f"there is no sample {sample}"
    elif asked == "top":
        recorded = look_up("alternatives", sample, entry["position"])
        if recorded.get(prompt):
            return top_agrees(entry["top"], recorded[prompt], entry["tolerance"])
        ended = prompt not in recorded and prompt in look_up("alternatives", sample, 0)
        found, problem = (
            None,
            (
                f"the text ended before position {entry['position']}"
                if ended
                else "the alternatives at this step were not recorded"
            ),
        )
    else:
        found = look_up(name, sample).get(prompt)
        problem = "the output's token ids were not recorded"
    if found is None:
        return False, f"nothing, {problem}"
    return _same(_sequence(entry[asked]), found, start=asked != name)


def top_agrees(
    expected: Mapping[str, float], recorded: Sequence[tuple[str, float]], tolerance: float
) -> Outcome:
    """Return whether the expected tokens are the likeliest ones, with these probabilities.

    Each must be recorded within `tolerance`, and no other recorded token may be likelier than the least
    likely expected one by more than that.

    Args:
        expected: token -> probability, 0 to 1; spaces at the ends of a token do not count.
        recorded: tokens and probabilities, likeliest first.
        tolerance: how far a probability may be off.

    Returns:
        Whether they are, and what was found in one line.
    """
    limit = tolerance + ROUNDING
    others = list(recorded)
    passed, lines = True, []
    for token, probability in expected.items():
        # With and without its space a word is two tokens; the one with the nearest probability is meant.
        same = [one for one in others if one[0].strip() == token.strip()]
        if not same:
            passed = False
            lines.append(f"{_quoted(token)} not among the {len(recorded)} recorded")
            continue
        found = min(same, key=lambda one: abs(one[1] - probability))
        others.remove(found)
        off = abs(found[1] - probability)
        passed &= off <= limit
        lines.append(f"{_quoted(token)} {found[1]:.4f}" + (f" (off by {off:.4f})" if off > limit else ""))
    likelier = [one for one in others if one[1] > min(expected.values(), default=1.0) + limit]
    lines += [f"{_quoted(token)} {probability:.4f} not expected" for token, probability in likelier]
    return passed and not likelier, ", ".join(lines)


def _metric(entry: Mapping[str, Any], metrics: Mapping[str, float]) -> Outcome:
    name = entry["metric"]
    if name not in metrics:
        return False, f"nothing, the point has no such metric{did_you_mean(name, metrics)}"
    value = metrics[name]
    return entry.get("min", -math.inf) <= value <= entry.get("max", math.inf), f"{value:.6g}"


def _same(expected: Sequenced, found: Sequenced, start: bool = False) -> Outcome:
    """Return whether a text or list is the expected one, or starts with it; and else where they differ."""
    if found == expected or (start and found[: len(expected)] == expected):
        return True, _excerpt(found)
    shorter = min(len(expected), len(found))
    at = next((i for i in range(shorter) if expected[i] != found[i]), shorter)
    width = CONTEXT[type(found)]
    unit = "character" if isinstance(found, str) else "token"
    before = ("…" if at > width else "") + _shown(found[max(0, at - width) : at])
    theirs, ours = (
        _excerpt(value[at:], 2 * width) if at < len(value) else "the end" for value in (found, expected)
    )
    return False, f"{theirs} where {ours} was expected, at {unit} {at}" + (f", after {before}" if at else "")


def _sequence(value: Any) -> Sequenced:
    return value if isinstance(value, str) else tuple(value)


def _excerpt(value: Sequenced, longest: int | None = None) -> str:
    """Return the start of a text or list, with dots where it is truncated."""
    longest = longest or MAX_SHOWN[type(value)]
    return _shown(value[:longest]) + ("…" if len(value) > longest else "")


def _shown(value: Sequenced) -> str:
    return _quoted(value) if isinstance(value, str) else " ".join(map(str, value)) or "none"


def _quoted(text: str) -> str:
    """Return the text in quotes, on one line: breaks, controls and bidirectional marks as escapes."""
    return repr(text)
