"""`harness replay`: the stored samples of a point under another strategy, as a table or as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.replay.choices import Reason
from harness.analysis.replay.replayer import ReplayedSample, changed_texts, replay_steps, summarize
from harness.analysis.replay.stored_steps import read_steps, vocabulary_of
from harness.analysis.replay.warp import supported_warp, warp_of
from harness.cli.output import print_json
from harness.config.effective import FIXED, NEUTRAL, effective_decoding
from harness.config.labels import value_text
from harness.errors import ConfigError
from harness.report.visible import visible
from harness.store.find_point import find_point
from harness.store.stored_point import StoredPoint

if TYPE_CHECKING:
    from harness.config.point import Decoding

_MOST_ROWS = 60
_REASONS = {Reason.UNRECORDED: "unrecorded", Reason.THRESHOLD: "threshold", Reason.TIE: "tie"}


@dataclass(frozen=True)
class StoredSamples:
    """A point whose samples can be replayed.

    Attributes:
        stored: its folder.
        name: the id or label by which it was found.
        requested: the keys that its decoding sets.
        effective: all fields of its decoding.
        seed: of its noise.
        vocabulary: its model's number of tokens; infinite if unknown.
    """

    stored: StoredPoint
    name: str
    requested: Mapping[str, Any]
    effective: Mapping[str, Any]
    seed: int
    vocabulary: float

    @classmethod
    def find(cls, outputs: Path, wanted: str) -> StoredSamples:
        """Find a point by its id, the beginning of its id, or its label.

        Raises:
            ConfigError: no point is found, or it is incomplete.
        """
        stored, name = find_point(outputs, wanted)
        needed = ("tokens.parquet", "generations.parquet", "config.yaml")
        if missing := [file for file in needed if not stored.has(file)]:
            cure = "run its sweep again to complete it"
            raise ConfigError.of(wanted, f"{missing[0]} of point {stored.point_id} not found; {cure}")
        config = stored.config()
        return cls(
            stored,
            name,
            config["requested"]["decoding"],
            config["effective"]["decoding"],
            int((stored.columns("generations", ["seed"])["seed"] or [0])[0]),
            vocabulary_of(stored),
        )


@dataclass(frozen=True)
class _Replay:
    """A point's samples under another strategy.

    Attributes:
        samples: the point.
        effective: all fields of the other strategy.
        depth: recorded alternatives per step.
        results: one per sample.
        texts: of the stored and the other token where a sample changes.
    """

    samples: StoredSamples
    effective: Mapping[str, Any]
    depth: int
    results: Sequence[ReplayedSample]
    texts: Sequence[tuple[str, str | None] | None]


def show_replay(samples: StoredSamples, decoding: Decoding, *, as_json: bool) -> int:
    """Print how a point's samples would be under another strategy.

    Returns:
        The exit status: 0.

    Raises:
        ConfigError: replay does not support the strategy, or no alternatives were recorded.
    """
    effective = effective_decoding(decoding)
    new, old = warp_of(effective), supported_warp(samples.effective)
    depth, results = 0, []
    for steps in read_steps(samples.stored, samples.vocabulary):
        depth = steps.depth
        results += list(replay_steps(steps, new, old, samples.seed).samples())
    replay = _Replay(samples, effective, depth, results, changed_texts(samples.stored, results))
    if as_json:
        print_json(_json(replay))
    else:
        _print_table(replay)
    return 0


def _json(replay: _Replay) -> dict[str, Any]:
    rows = []
    for sample, texts in zip(replay.results, replay.texts, strict=True):
        row = asdict(sample) | {"reason": sample.reason.describe(replay.depth) or None}
        if texts is None:
            row |= {"logprob": None, "warped_logprob": None}
        else:
            row |= {"token_text": texts[0], "other_text": texts[1]}
        rows.append(row)
    return {
        "point": replay.samples.stored.point_id,
        "made_by": _not_neutral(replay.samples.effective),
        "replayed_as": _not_neutral(replay.effective),
        "recorded": replay.depth,
        "summary": summarize(replay.results),
        "samples": rows,
    }


def _not_neutral(effective: Mapping[str, Any]) -> dict[str, Any]:
    """Return `do_sample`, and the fields of a strategy that are not neutral."""
    neutral = {**FIXED, **NEUTRAL}
    fields = {key: value for key, value in effective.items() if value != neutral.get(key)}
    return {"do_sample": effective["do_sample"], **fields}


def _describe(effective: Mapping[str, Any]) -> str:
    """Return a strategy in a few words."""
    fields = _not_neutral(effective)
    words = [] if fields.pop("do_sample") else ["greedy"]
    words += [f"{key}={value_text(value)}" for key, value in fields.items()]
    return " ".join(words) or "plain sampling"


def _print_table(replay: _Replay) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    strategies = (
        f"generated by {_describe(replay.samples.effective)}, replayed as {_describe(replay.effective)}"
    )
    console.print(Text(visible(f"{replay.samples.name}, {strategies}"), style="bold"), soft_wrap=True)
    several = len({sample.sample for sample in replay.results}) > 1
    table = Table(box=None, padding=(0, 1, 0, 0))
    longest = max((len(sample.prompt_id) for sample in replay.results), default=0)
    table.add_column("prompt", overflow="fold", min_width=min(longest, 16))
    for column in (["sample"] if several else []) + ["steps", "same", "changes"]:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("stored, replayed\n(raw → warped p)", overflow="fold")
    table.add_column("undecided", overflow="fold")
    for column in ("mean\nlogprob", "candidates\nkept"):
        table.add_column(column, justify="right", no_wrap=True)
    for sample, texts in list(zip(replay.results, replay.texts, strict=True))[:_MOST_ROWS]:
        table.add_row(
            Text(visible(sample.prompt_id)),
            *([str(sample.sample)] if several else []),
            str(sample.steps),
            str(sample.same),
            _changes(sample),
            Text("" if texts is None else _tokens(sample, *texts)),
            "" if sample.undecided_at is None else f"at {sample.undecided_at}, {_REASONS[sample.reason]}",
            _interval(*sample.mean_logprob, 3),
            _interval(*sample.kept, 1),
        )
    console.print(table)
    if (more := len(replay.results) - _MOST_ROWS) > 0:
        console.print(f"... and {more} more samples (all with --json)", style="dim")
    for line in _closing(replay):
        console.print(Text(line), soft_wrap=True)


def _changes(sample: ReplayedSample) -> str:
    """Return at which step a sample changes, or by which if an earlier step is undecided."""
    if sample.changes_at is None:
        return ""
    return f"{'at' if sample.undecided_at is None else 'by'} {sample.changes_at}"


def _tokens(sample: ReplayedSample, text: str, other_text: str | None) -> str:
    """Return the stored token and the one chosen instead, each with its raw and warped probability."""
    (warped, other_warped), (raw, other_raw) = sample.warped_logprob, sample.logprob
    stored = f"“{visible(text)}” {_probability(raw)} → {_bounded_probability(warped)}"
    if other_text is None or other_warped is None or other_raw is None:
        return f"{stored}\nanother token"
    other = f"“{visible(other_text)}” {_probability(other_raw)} → {_bounded_probability(other_warped)}"
    return f"{stored}\n{other}"


def _probability(logprob: float) -> str:
    return f"{math.exp(logprob):.3f}"


def _bounded_probability(bounds: tuple[float, float]) -> str:
    low, high = bounds
    if high == -math.inf:
        return "removed"
    return _probability(high) if high - low < 1e-3 else f"{_probability(low)}..{_probability(high)}"


def _interval(low: float, high: float, decimals: int) -> str:
    """Return one number if the bounds agree; a bound that says little is left out."""
    if low == -math.inf:
        return "-∞" if high == -math.inf else f"≤ {high:.{decimals}f}"
    if high > 10 * (1 + abs(low)):
        return f"≥ {low:.{decimals}f}"
    texts = f"{low:.{decimals}f}", f"{high:.{decimals}f}"
    return texts[0] if texts[0] == texts[1] else "..".join(texts)


def _closing(replay: _Replay) -> list[str]:
    """Return the summary over all samples, and why some of them are undecided."""
    summary = summarize(replay.results)
    reasons = Counter(sample.reason for sample in replay.results if sample.undecided_at is not None)
    lines = [
        f"{summary['same']} of {summary['samples']} samples are identical to the end, "
        f"{summary['changed']} change, {summary['undecided']} are undecided from some step on; "
        f"{summary['same_steps']} of {summary['steps']} steps are certainly identical",
    ]
    if summary["impossible"] < summary["samples"]:
        low, high = summary["mean_logprob"]
        mean = _interval(low, high, 3)
        lines.append(f"mean logprob {mean} over the samples that this strategy can generate")
    if summary["impossible"]:
        lines.append(
            f"{summary['impossible']} samples contain a token removed by truncation: this strategy could not "
            "have generated them"
        )
    for reason, count in sorted(reasons.items()):
        lines.append(f"{_REASONS[reason]}: {reason.describe(replay.depth)} ({count} samples)")
    if Reason.UNRECORDED in reasons or Reason.THRESHOLD in reasons:
        lines.append(
            f"record.top_k={max(20, 4 * replay.depth)} when running the sweep lets replay decide more"
        )
    return lines
