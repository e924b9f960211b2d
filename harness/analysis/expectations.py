"""What was expected of a sweep, held against what the store holds of its points; nothing is run.

Entries of `expect` come as plain dicts (`harness.config.expectation` tells their fields). Each thing asked is
checked by itself, at each point and prompt it speaks of; what cannot be looked up is missed, and says why.
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
"""Logprobs are stored in float32: what a probability may be off by that alone."""
LONGEST = {str: 80, tuple: 16}
"""How much is shown of an expected text (characters) or list (ids)."""
BEFORE = {str: 20, tuple: 4}
"""How much is shown before the place where two part; after it twice as much."""

Verdict = tuple[bool, str]
Sequenced = str | tuple[int, ...]
"""A text, or a list of token ids."""


@dataclass(frozen=True)
class Checked:
    """One thing expected of one point, and of one prompt where it is about one.

    Attributes:
        label: of the point.
        prompt_id: of the prompt; None where the point as a whole is meant, or its prompts are not known.
        text: what was expected, in one line.
        passed: whether it was seen.
        got: what was seen, in one line; where a text or list parts from the expected one.
    """

    label: str
    prompt_id: str | None
    text: str
    passed: bool
    got: str

    @property
    def line(self) -> str:
        """All but the label and whether it passed."""
        where = f"{self.prompt_id}: " if self.prompt_id is not None else ""
        return f"{where}expected {self.text}; got {self.got}"


def check_expectations(sweep: Sweep) -> tuple[Checked, ...]:
    """Everything expected of every point, point by point."""
    return tuple(checked for point in sweep.points for checked in check_point(sweep, point))


def check_point(sweep: Sweep, point: SweepPoint) -> tuple[Checked, ...]:
    """Everything expected of one point, in the order of `expect`."""
    entries = [entry for entry in sweep.expect if matches(entry.get("point"), point.label)]
    if not entries:
        return ()
    stored = stored_point(sweep.folder.parent.parent, point.point_id)
    if problem := _not_there(point, stored):
        return tuple(
            Checked(point.label, None, _expected(asked, entry), False, problem)
            if asked == "metric"
            else Checked(point.label, entry.get("prompt"), _expected(asked, entry), False, problem)
            for entry in entries
            for asked in _asked(entry)
        )
    # Many entries speak of one table: each is read once a point.
    look_up = cache(lambda *what: LOOK_UPS[what[0]](stored, *what[1:]))
    prompts = dict.fromkeys(stored.columns("generations", ["prompt_id"])["prompt_id"])
    checked: list[Checked] = []
    for entry in entries:
        for asked in _asked(entry):
            text = _expected(asked, entry)
            if asked == "metric":
                passed, got = _metric(entry, look_up("metrics"))
                checked.append(Checked(point.label, None, text, passed, got))
                continue
            for prompt in prompts if entry.get("prompt") is None else [entry["prompt"]]:
                if prompt in prompts:
                    passed, got = _check(asked, entry, prompt, look_up)
                    checked.append(Checked(point.label, prompt, text, passed, got))
    return tuple(checked)


def missed(checked: Sequence[Checked]) -> list[Checked]:
    """Those that did not pass."""
    return [one for one in checked if not one.passed]


def verdict(checked: Sequence[Checked]) -> str:
    """`3 passed`, or `1 of 3 missed`."""
    wrong = len(missed(checked))
    return f"{wrong} of {len(checked)} missed" if wrong else f"{len(checked)} passed"


def _asked(entry: Mapping[str, Any]) -> Iterator[str]:
    return (name for name in ASKED if entry.get(name) is not None)


def _not_there(point: SweepPoint, stored: StoredPoint) -> str:
    """Why there is nothing to look at; empty when there is."""
    if point.status == "failed":
        return f"nothing, the point failed: {point.error}"
    if point.status not in ("done", "reused"):
        return "nothing, the point was not run"
    if not stored.has("generations.parquet"):
        return "nothing, the point is no longer in the store"
    return ""


# What was expected -------------------------------------------------------------------------------


def _expected(asked: str, entry: Mapping[str, Any]) -> str:
    """One thing that an entry asks, in one line."""
    value = entry[asked]
    name = asked.replace("_", " ")
    if asked == "metric":
        bounds = [
            f"{words} {entry[key]:g}"
            for key, words in (("min", "at least"), ("max", "at most"))
            if entry.get(key) is not None
        ]
        return f"{value} {' and '.join(bounds)}"
    if asked == "top":
        tokens = ", ".join(f"{_quoted(token)} {probability:g}" for token, probability in value.items())
        return f"top {tokens} (within {entry['tolerance']:g}) at position {entry['position']}{_sample(entry)}"
    return f"{name} {_excerpt(_sequence(value))}{'' if asked.startswith('prompt') else _sample(entry)}"


def _sample(entry: Mapping[str, Any]) -> str:
    return f" of sample {entry['sample']}" if entry.get("sample") else ""


# What was seen -----------------------------------------------------------------------------------

LookUp = Callable[..., Any]


def _outputs(stored: StoredPoint, sample: int) -> dict[str, str]:
    """By prompt, the text of a sample."""
    columns = stored.columns("generations", ["prompt_id", "output"], [("sample", "=", sample)])
    return dict(zip(columns["prompt_id"], columns["output"], strict=True))


def _output_ids(stored: StoredPoint, sample: int) -> dict[str, tuple[int, ...]]:
    """By prompt, the ids of a sample, an EOS that ended it included."""
    return _by_prompt(stored.columns("tokens", ["prompt_id", "token_id"], [("sample", "=", sample)]))


def _prompt_ids(stored: StoredPoint) -> dict[str, tuple[int, ...]]:
    """By prompt, its own ids."""
    if not stored.has("prompt_tokens.parquet"):
        return {}
    return _by_prompt(stored.columns("prompt_tokens", ["prompt_id", "token_id"]))


def _by_prompt(columns: Mapping[str, Sequence[Any]]) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for prompt, token in zip(columns["prompt_id"], columns["token_id"], strict=True):
        found.setdefault(prompt, []).append(token)
    return {prompt: tuple(tokens) for prompt, tokens in found.items()}


def _alternatives(stored: StoredPoint, sample: int, position: int) -> dict[str, list[tuple[str, float]]]:
    """By prompt, the texts and raw probabilities of the alternatives at a step, likeliest first."""
    names = ["prompt_id", "top_tokens", "top_logprobs"]
    columns = stored.columns("tokens", names, [("sample", "=", sample), ("position", "=", position)])
    return {
        prompt: [(token, math.exp(logprob)) for token, logprob in zip(tokens, logprobs, strict=True)]
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


# Is it what was expected? ------------------------------------------------------------------------


def _check(asked: str, entry: Mapping[str, Any], prompt: str, look_up: LookUp) -> Verdict:
    """One thing that an entry asks about a prompt."""
    sample = entry["sample"]
    if asked == "top":
        recorded = look_up("alternatives", sample, entry["position"]).get(prompt)
        if recorded is not None:
            return top_agrees(entry["top"], recorded, entry["tolerance"])
        if prompt in look_up("output", sample):
            return False, f"nothing, the text ended before position {entry['position']}"
        return False, f"nothing, there is no sample {sample}"
    what = asked.removesuffix("_start")
    if what == "prompt_ids":
        seen = look_up(what).get(prompt)
        problem = "nothing, the prompt's ids are not kept; record.prompt_logprobs=true keeps them"
    else:
        seen = look_up(what, sample).get(prompt)
        problem = f"nothing, there is no sample {sample}"
    if seen is None:
        return False, problem
    return _same(_sequence(entry[asked]), seen, start=asked != what)


def top_agrees(
    expected: Mapping[str, float], recorded: Sequence[tuple[str, float]], tolerance: float
) -> Verdict:
    """Whether the expected tokens are the likeliest ones, with these probabilities.

    Each must be recorded within `tolerance`, and no other recorded token may be likelier than the least
    likely expected one by more than that.

    Args:
        expected: token -> probability, 0 to 1; spaces at the ends of a token do not count.
        recorded: tokens and probabilities, likeliest first.
        tolerance: how far a probability may be off.

    Returns:
        Whether it is so, and what was seen in one line.
    """
    room = tolerance + ROUNDING
    others = list(recorded)
    passed, told = True, []
    for token, probability in expected.items():
        # With and without its space a word is two tokens; the one that is meant has the probability for it.
        same = [one for one in others if one[0].strip() == token.strip()]
        if not same:
            passed = False
            told.append(f"{_quoted(token)} not among the {len(recorded)} recorded")
            continue
        found = min(same, key=lambda one: abs(one[1] - probability))
        others.remove(found)
        off = abs(found[1] - probability)
        passed &= off <= room
        told.append(f"{_quoted(token)} {found[1]:.4f}" + (f" (off by {off:.4f})" if off > room else ""))
    likelier = [one for one in others if one[1] > min(expected.values(), default=1.0) + room]
    told += [f"{_quoted(token)} {probability:.4f} not expected" for token, probability in likelier]
    return passed and not likelier, ", ".join(told)


def _metric(entry: Mapping[str, Any], metrics: Mapping[str, float]) -> Verdict:
    name = entry["metric"]
    if name not in metrics:
        return False, f"nothing, the point has no such metric{did_you_mean(name, metrics)}"
    value = metrics[name]
    return entry.get("min", -math.inf) <= value <= entry.get("max", math.inf), f"{value:.6g}"


def _same(expected: Sequenced, seen: Sequenced, start: bool = False) -> Verdict:
    """Whether a text or list of ids is the expected one, or begins with it; where the two part if not."""
    if seen == expected or (start and seen[: len(expected)] == expected):
        return True, _excerpt(seen)
    shorter = min(len(expected), len(seen))
    at = next((place for place in range(shorter) if expected[place] != seen[place]), shorter)
    width = BEFORE[type(seen)]
    place = "character" if isinstance(seen, str) else "token"
    before = ("…" if at > width else "") + _shown(seen[max(0, at - width) : at])
    theirs, ours = (
        _excerpt(what[at:], 2 * width) if at < len(what) else "the end" for what in (seen, expected)
    )
    return False, f"{theirs} where {ours} was expected, at {place} {at}" + (f", after {before}" if at else "")


def _sequence(value: Any) -> Sequenced:
    return value if isinstance(value, str) else tuple(value)


def _excerpt(what: Sequenced, longest: int | None = None) -> str:
    """The beginning of a text or list, with dots where it was cut."""
    longest = longest or LONGEST[type(what)]
    return _shown(what[:longest]) + ("…" if len(what) > longest else "")


def _shown(what: Sequenced) -> str:
    return _quoted(what) if isinstance(what, str) else " ".join(map(str, what)) or "none"


def _quoted(text: str) -> str:
    """In quotes, on one line: what is not printed (breaks, controls, bidirectional marks) as its escape."""
    return repr(text)
