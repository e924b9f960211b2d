"""`harness replay`: a stored point's samples under another strategy, as a table or as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.replay import (
    Reason,
    ReplayedSample,
    Replayer,
    Seeds,
    known_warp,
    read_steps,
    summaries,
    vocabulary_of,
    warp_of,
)
from harness.config.effective import FIXED, NEUTRAL, effective_decoding
from harness.config.labels import value_text
from harness.errors import ConfigError
from harness.report.visible import visible
from harness.store.find_point import find_point
from harness.store.stored_point import StoredPoint

if TYPE_CHECKING:
    from harness.config.point import Decoding

_MOST_ROWS = 60
_WHY = {Reason.BEYOND: "beyond", Reason.BORDER: "border", Reason.CLOSE: "close"}


@dataclass(frozen=True)
class StoredSamples:
    """A point whose samples can be replayed.

    Attributes:
        stored: its folder.
        name: what it was called by.
        requested: the keys of its decoding that were set.
        effective: every field of it.
        seed: of its luck.
        vocabulary: tokens there are; infinite if that is not known.
    """

    stored: StoredPoint
    name: str
    requested: Mapping[str, Any]
    effective: Mapping[str, Any]
    seed: int
    vocabulary: float

    @classmethod
    def find(cls, outputs: Path, wanted: str) -> StoredSamples:
        """The point that `wanted` names.

        Raises:
            ConfigError: there is none, or it is not whole.
        """
        stored, name = find_point(outputs, wanted)
        needed = ("tokens.parquet", "generations.parquet", "config.yaml")
        if missing := [file for file in needed if not stored.has(file)]:
            cure = "run its sweep again, which goes on where it stopped"
            raise ConfigError.of(wanted, f"{missing[0]} of point {stored.point_id} is not there; {cure}")
        config = stored.config()
        return cls(
            stored,
            name,
            config["requested"]["decoding"],
            config["effective"]["decoding"],
            int((stored.columns("generations", ["seed"])["seed"] or [0])[0]),
            vocabulary_of(stored),
        )


def show_replay(samples: StoredSamples, decoding: Decoding, *, as_json: bool) -> int:
    """Print what a strategy would have made of a point's samples.

    Returns:
        The exit status: 0.

    Raises:
        ConfigError: replay does not know the strategy, or no alternatives were recorded.
    """
    effective = effective_decoding(decoding)
    warp = warp_of(effective)
    replayer = Replayer(warp, known_warp(samples.effective), Seeds(samples.seed, samples.seed))
    depth, found = 0, []
    for steps in read_steps(samples.stored, samples.vocabulary):
        depth = steps.depth
        found += list(summaries([replayer(steps)]))
    pieces = _pieces(samples.stored, found)
    if as_json:
        _print_json(samples, effective, depth, found, pieces)
    else:
        _print_table(samples, effective, depth, found, pieces)
    return 0


def _pieces(stored: StoredPoint, found: Sequence[ReplayedSample]) -> list[tuple[str, str | None]]:
    """The texts of the token that is stored and of the other one, where a sample parts."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(stored.path("tokens.parquet")) as file:
        table = file.read(columns=["token", "top_tokens", "top_ids"])
    start, texts = 0, []
    for sample in found:
        text: tuple[str, str | None] = ("", None)
        if sample.changes_at is not None:
            (row,) = table.slice(start + sample.changes_at, 1).to_pylist()
            tokens = dict(zip(row["top_ids"], row["top_tokens"], strict=True))
            # A stored piece is what a token added to its text; by itself it is among the alternatives.
            text = tokens.get(sample.token, row["token"]), tokens.get(sample.other)
        texts.append(text)
        start += sample.steps
    return texts


def _set(effective: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a strategy that are not neutral, and whether it draws."""
    neutral = {**FIXED, **NEUTRAL}
    named = {key: value for key, value in effective.items() if value != neutral.get(key)}
    return {"do_sample": effective["do_sample"], **named}


def _said(effective: Mapping[str, Any]) -> str:
    """A strategy in few words."""
    values = [f"{key}={value_text(value)}" for key, value in _set(effective).items() if key != "do_sample"]
    return " ".join(values if effective["do_sample"] else ["greedy", *values]) or "plain sampling"


def _print_json(
    samples: StoredSamples,
    effective: Mapping[str, Any],
    depth: int,
    found: Sequence[ReplayedSample],
    pieces: Sequence[tuple[str, str | None]],
) -> None:
    """JSON has no infinities: a bound that is infinite is null."""
    rows = []
    for sample, (token, other) in zip(found, pieces, strict=True):
        row = asdict(sample) | {"reason": sample.reason.told(depth) or None}
        if sample.changes_at is None:
            row |= {"logprob": None, "warped_logprob": None}
        else:
            row |= {"token_text": token, "other_text": other}
        rows.append(row)
    told = {
        "point": samples.stored.point_id,
        "made_by": _set(samples.effective),
        "replayed_as": _set(effective),
        "recorded": depth,
        "summary": _summary(found),
        "samples": rows,
    }
    json.dump(_finite(told), sys.stdout, indent=1, ensure_ascii=True, allow_nan=False)
    sys.stdout.write("\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _summary(found: Sequence[ReplayedSample]) -> dict[str, Any]:
    possible = [sample for sample in found if sample.mean_logprob[1] > -math.inf]
    return {
        "samples": len(found),
        "steps": sum(sample.steps for sample in found),
        "same": sum(sample.same == sample.steps for sample in found),
        "changed": sum(sample.changes_at is not None for sample in found),
        "undecided": sum(sample.undecided_at is not None for sample in found),
        "same_steps": sum(sample.same for sample in found),
        "impossible": len(found) - len(possible),
        "mean_logprob": _mean(possible, [sample.mean_logprob for sample in possible]),
        "kept": _mean(found, [sample.kept for sample in found]),
    }


def _mean(found: Sequence[ReplayedSample], bounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Bounds on a mean over all steps of some samples, from those on each sample's."""
    steps = max(sum(sample.steps for sample in found), 1)
    low, high = (
        sum(sample.steps * bound[end] for sample, bound in zip(found, bounds, strict=True)) / steps
        for end in (0, 1)
    )
    return low, high


def _print_table(
    samples: StoredSamples,
    effective: Mapping[str, Any],
    depth: int,
    found: Sequence[ReplayedSample],
    pieces: Sequence[tuple[str, str | None]],
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    head = f"{samples.name}, made by {_said(samples.effective)}, replayed as {_said(effective)}"
    console.print(Text(visible(head), style="bold"), soft_wrap=True)
    several = len({sample.sample for sample in found}) > 1
    table = Table(box=None, padding=(0, 1, 0, 0))
    widest = max((len(sample.prompt_id) for sample in found), default=0)
    table.add_column("prompt", overflow="fold", min_width=min(widest, 16))
    for column in (["sample"] if several else []) + ["steps", "same", "changes"]:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("instead of", overflow="fold")
    table.add_column("not told", overflow="fold")
    for column in ("logprob", "kept"):
        table.add_column(column, justify="right", no_wrap=True)
    for sample, texts in list(zip(found, pieces, strict=True))[:_MOST_ROWS]:
        table.add_row(
            Text(visible(sample.prompt_id)),
            *([str(sample.sample)] if several else []),
            str(sample.steps),
            str(sample.same),
            _changes(sample),
            Text(_parting(sample, *texts)),
            "" if sample.undecided_at is None else f"at {sample.undecided_at} {_WHY[sample.reason]}",
            _interval(*sample.mean_logprob, 3),
            _interval(*sample.kept, 1),
        )
    console.print(table)
    if len(found) > _MOST_ROWS:
        console.print(f"... and {len(found) - _MOST_ROWS} samples more (--json has all)", style="dim")
    for line in _closing(found, depth):
        console.print(Text(line), soft_wrap=True)


def _changes(sample: ReplayedSample) -> str:
    """Where a sample parts: there, or there at the latest where a step before cannot be told."""
    if sample.changes_at is None:
        return ""
    return f"{'at' if sample.undecided_at is None else 'by'} {sample.changes_at}"


def _parting(sample: ReplayedSample, token: str, other: str | None) -> str:
    """The token that is stored and the one that would have been chosen, each with its probabilities."""
    if sample.changes_at is None:
        return ""
    (from_bounds, to_bounds), (from_raw, to_raw) = sample.warped_logprob, sample.logprob
    stored = f"{_quoted(token)} {_share(from_raw)} → {_cut_or_share(from_bounds)}"
    if other is None or to_bounds is None or to_raw is None:
        return f"{stored}\nanother"
    return f"{stored}\n{_quoted(other)} {_share(to_raw)} → {_cut_or_share(to_bounds)}"


def _quoted(piece: str) -> str:
    return f"“{visible(piece)}”"


def _share(logprob: float) -> str:
    return f"{math.exp(logprob):.3f}"


def _cut_or_share(bounds: tuple[float, float]) -> str:
    low, high = bounds
    if high == -math.inf:
        return "cut"
    return _share(high) if high - low < 1e-3 else f"{_share(low)}..{_share(high)}"


def _interval(low: float, high: float, decimals: int) -> str:
    """One number where the bounds are one; a bound that says little is left out."""
    if low == -math.inf:
        return "-∞" if high == -math.inf else f"≤ {high:.{decimals}f}"
    if high > 10 * (1 + abs(low)):
        return f"≥ {low:.{decimals}f}"
    texts = f"{low:.{decimals}f}", f"{high:.{decimals}f}"
    return texts[0] if texts[0] == texts[1] else "..".join(texts)


def _closing(found: Sequence[ReplayedSample], depth: int) -> list[str]:
    """What all samples come to, and why some of it is not told."""
    summary = _summary(found)
    reasons = Counter(sample.reason for sample in found if sample.undecided_at is not None)
    low, high = summary["mean_logprob"]
    lines = [
        f"{summary['same']} of {summary['samples']} samples are the same to the end, "
        f"{summary['changed']} change, {summary['undecided']} cannot be told from some step on; "
        f"{summary['same_steps']} of {summary['steps']} steps are certainly the same",
    ]
    if summary["impossible"] < summary["samples"]:
        lines.append(f"mean logprob {_interval(low, high, 3)} of the samples that it can make")
    if summary["impossible"]:
        lines.append(
            f"{summary['impossible']} samples hold a token that it cuts: it could not have made them"
        )
    for reason, count in sorted(reasons.items()):
        lines.append(f"{_WHY[reason]}: {reason.told(depth)} ({count} samples)")
    if Reason.BEYOND in reasons or Reason.BORDER in reasons:
        lines.append(f"record.top_k={max(20, 4 * depth)} when the sweep is run lets replay tell more")
    return lines
