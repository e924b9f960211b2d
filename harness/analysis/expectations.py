"""Check the expectations of a sweep against its stored points; nothing is run.

Entries of `expect` are plain dicts with the fields of `harness.config.expectation`. Each thing that an entry
asks is checked by itself, at each point and prompt that it applies to; what cannot be looked up is missed,
with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from harness.config.expectation import ASKED, matches
from harness.config.suggest import did_you_mean
from harness.store.stored_point import StoredPoint, stored_point
from harness.store.sweeps import Sweep, SweepPoint

ROUNDING = 1e-6
"""Logprobs are stored in float32: how far a probability may be off from that alone."""
MAX_SHOWN = {str: 80, list: 16}
"""How much is shown of an expected text (characters) or list of token ids."""
CONTEXT = {str: 20, list: 4}
"""How much is shown before the first difference; after it twice as much."""

Outcome = tuple[bool, str]
"""Whether an expectation was met, and what was found instead or as expected, in one line."""

Read = Callable[..., dict[str, list[Any]]]
"""`_read` at one point; each call is read from disk once, since many entries need the same."""


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
    missing = _missing(point, stored)
    read = cache(partial(_read, stored))
    prompts = () if missing else dict.fromkeys(stored.columns("generations", ["prompt_id"])["prompt_id"])
    outcomes: list[tuple[str | None, Outcome]]
    checked: list[CheckedExpectation] = []
    for entry in entries:
        wanted = entry.get("prompt")
        for asked in (name for name in ASKED if entry.get(name) is not None):
            if missing:
                outcomes = [(None if asked == "metric" else wanted, (False, missing))]
            elif asked == "metric":
                outcomes = [(None, _metric(entry, stored))]
            else:
                outcomes = [(p, _check(asked, entry, p, read)) for p in prompts if wanted in (None, p)]
            text = _expected(asked, entry)
            checked += [
                CheckedExpectation(point.label, prompt, text, *outcome) for prompt, outcome in outcomes
            ]
    return tuple(checked)


def missed(checked: Sequence[CheckedExpectation]) -> list[CheckedExpectation]:
    """Return those that did not pass."""
    return [one for one in checked if not one.passed]


def check_summary(checked: Sequence[CheckedExpectation]) -> str:
    """Return `3 passed`, or `1 of 3 missed`."""
    count = len(missed(checked))
    return f"{count} of {len(checked)} missed" if count else f"{len(checked)} passed"


def _missing(point: SweepPoint, stored: StoredPoint) -> str:
    """Return why nothing of a point is stored; empty when it is."""
    if point.status == "failed":
        return f"nothing, the point failed: {point.error}"
    if point.status not in ("done", "reused"):
        return "nothing, the point was not run"
    if not stored.has("generations.parquet"):
        return "nothing, the point is no longer in the store"
    if damage := stored.damage():
        return f"nothing, {damage}"
    return ""


def _expected(asked: str, entry: Mapping[str, Any]) -> str:
    """Return one thing that an entry asks, in one line."""
    value = entry[asked]
    if asked == "metric":
        bounds = {"at least": entry.get("min"), "at most": entry.get("max")}
        known = [f"{bound} {number:g}" for bound, number in bounds.items() if number is not None]
        return f"{value} {' and '.join(known)}"
    of_sample = f" of sample {entry['sample']}" if entry.get("sample") else ""
    if asked == "top":
        tokens = ", ".join(f"{token!r} {probability:g}" for token, probability in value.items())
        return f"top {tokens} (within {entry['tolerance']:g}) at position {entry['position']}{of_sample}"
    return f"{asked.replace('_', ' ')} {_excerpt(value)}{'' if asked.startswith('prompt') else of_sample}"


def _read(
    stored: StoredPoint, table: str, columns: tuple[str, ...], **where: int
) -> dict[str, list[tuple[Any, ...]]]:
    """Return, by prompt, these columns of a table's rows at which other columns have these values."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    if stored.has(f"{table}.parquet"):
        filters = [(name, "=", value) for name, value in where.items()]
        values = stored.columns(table, ["prompt_id", *columns], filters)
        rows = zip(*(values[name] for name in columns), strict=True)
        for prompt, row in zip(values["prompt_id"], rows, strict=True):
            found.setdefault(prompt, []).append(row)
    return found


def _check(asked: str, entry: Mapping[str, Any], prompt: str, read: Read) -> Outcome:
    """Check one thing that an entry asks about a prompt."""
    sample = entry["sample"]
    if asked.startswith("prompt_ids"):
        found = read("prompt_tokens", ("token_id",)).get(prompt)
        problem = "the prompt's ids were not recorded; record.prompt_logprobs=true records them"
    elif prompt not in (outputs := read("generations", ("output",), sample=sample)):
        return False, f"nothing, there is no sample {sample}"
    elif asked == "top":
        alternatives = partial(read, "tokens", ("top_tokens", "top_logprobs"), sample=sample)
        position = entry["position"]
        recorded = alternatives(position=position)
        tokens, logprobs = recorded.get(prompt, [(None, None)])[0]
        if tokens and logprobs:
            probabilities = map(math.exp, logprobs)
            return top_agrees(entry["top"], list(zip(tokens, probabilities, strict=True)), entry["tolerance"])
        if prompt not in recorded and prompt in alternatives(position=0):
            return False, f"nothing, the text ended before position {position}"
        return False, "nothing, the alternatives at this step were not recorded"
    elif asked == "output_ids":
        found = read("tokens", ("token_id",), sample=sample).get(prompt)
        problem = "the output's token ids were not recorded"
    else:
        return _same(entry[asked], outputs[prompt][0][0], start=asked == "output_start")
    if not found or (None,) in found:
        return False, f"nothing, {problem}"
    return _same(entry[asked], [token_id for (token_id,) in found], start=asked == "prompt_ids_start")


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
            lines.append(f"{token!r} not among the {len(recorded)} recorded")
            continue
        found = min(same, key=lambda one: abs(one[1] - probability))
        others.remove(found)
        off = abs(found[1] - probability)
        passed &= off <= limit
        lines.append(f"{token!r} {found[1]:.4f}" + (f" (off by {off:.4f})" if off > limit else ""))
    likelier = [one for one in others if one[1] > min(expected.values(), default=1.0) + limit]
    lines += [f"{token!r} {probability:.4f} not expected" for token, probability in likelier]
    return passed and not likelier, ", ".join(lines)


def _metric(entry: Mapping[str, Any], stored: StoredPoint) -> Outcome:
    name = entry["metric"]
    metrics = stored.metrics()["metrics"] if stored.has("metrics.json") else {}
    if name not in metrics:
        return False, f"nothing, the point has no such metric{did_you_mean(name, metrics)}"
    value = metrics[name]
    return entry.get("min", -math.inf) <= value <= entry.get("max", math.inf), f"{value:.6g}"


def _same(expected: str | list[int], found: str | list[int], start: bool) -> Outcome:
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


def _excerpt(value: str | list[int], longest: int | None = None) -> str:
    """Return the start of a text or list, with dots where it is truncated."""
    longest = longest or MAX_SHOWN[type(value)]
    return _shown(value[:longest]) + ("…" if len(value) > longest else "")


def _shown(value: str | list[int]) -> str:
    """Return ids, or a text in quotes: breaks, controls and bidirectional marks as escapes."""
    return repr(value) if isinstance(value, str) else " ".join(map(str, value)) or "none"
