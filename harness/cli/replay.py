"""`harness replay`: the stored samples of a point under another strategy, as a table or as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from harness.analysis.replay.choices import Reason
from harness.analysis.replay.replayer import ReplayedSample, changed_texts, replay_steps, summarize
from harness.analysis.replay.stored_steps import read_steps, vocabulary_of
from harness.analysis.replay.warp import supported_warp, warp_of
from harness.cli.output import print_json
from harness.config.effective import FIXED, NEUTRAL, effective_decoding
from harness.config.labels import value_text
from harness.errors import ConfigError
from harness.report.console import SafeConsole
from harness.store.find_point import find_point
from harness.store.stored_point import StoredPoint
from harness.terminal import visible

if TYPE_CHECKING:
    from harness.config.decoding import Decoding

_MOST_ROWS = 60


@dataclass(frozen=True)
class Replay:
    """A point's samples under another strategy; with the texts of both tokens where a sample changes."""

    point_id: str
    name: str
    generated_by: Mapping[str, Any]
    replayed_as: Mapping[str, Any]
    depth: int
    results: Sequence[tuple[ReplayedSample, tuple[str, str | None] | None]]
    summary: Mapping[str, Any]


def find_samples(outputs: Path, wanted: str) -> tuple[StoredPoint, str]:
    """Return a point whose samples can be replayed, and the id or label by which it was found.

    Raises:
        ConfigError: no point has this id, beginning of an id, or label, or it is incomplete.
    """
    stored, name = find_point(outputs, wanted)
    for file in ("tokens.parquet", "generations.parquet", "config.yaml"):
        if not stored.has(file):
            message = f"{file} of point {stored.point_id} not found; run its sweep again to complete it"
            raise ConfigError.of(wanted, message)
    if damage := stored.damage():
        raise ConfigError.of(wanted, f"{damage}; run its sweep again to make it anew")
    return stored, name


def replay(stored: StoredPoint, name: str, decoding: Decoding) -> Replay:
    """Return how a point's samples would be under another strategy.

    Raises:
        ConfigError: replay does not support the strategy, or no alternatives were recorded.
    """
    old, new = stored.config()["effective"]["decoding"], effective_decoding(decoding)
    seed = int((stored.columns("generations", ["seed"])["seed"] or [0])[0])
    new_warp, old_warp = warp_of(new), supported_warp(old)
    depth, results = 0, list[ReplayedSample]()
    for steps in read_steps(stored, vocabulary_of(stored)):
        depth = steps.depth
        results += replay_steps(steps, new_warp, old_warp, seed).samples()
    with_texts = list(zip(results, changed_texts(stored, results), strict=True))
    return Replay(stored.point_id, name, old, new, depth, with_texts, summarize(results))


def show_replay(stored: StoredPoint, name: str, decoding: Decoding, *, as_json: bool) -> int:
    """Print how a point's samples would be under another strategy.

    Returns:
        The exit status: 0.

    Raises:
        ConfigError: as `replay`.
    """
    found = replay(stored, name, decoding)
    if as_json:
        print_json(replay_json(found))
    else:
        _print_table(found)
    return 0


def replay_json(replay: Replay) -> dict[str, Any]:
    """Return a replay as JSON values."""
    rows = []
    for sample, texts in replay.results:
        row = asdict(sample) | {"reason": sample.reason.describe(replay.depth) or None}
        if texts is None:
            row |= {"logprob": None, "warped_logprob": None}
        else:
            row |= {"token_text": texts[0], "other_text": texts[1]}
        rows.append(row)
    return {
        "point": replay.point_id,
        "made_by": _not_neutral(replay.generated_by),
        "replayed_as": _not_neutral(replay.replayed_as),
        "recorded": replay.depth,
        "summary": replay.summary,
        "samples": rows,
    }


def _not_neutral(effective: Mapping[str, Any]) -> dict[str, Any]:
    """Return `do_sample`, and the fields of a strategy that are not neutral."""
    neutral = {**FIXED, **NEUTRAL}
    fields = {key: value for key, value in effective.items() if value != neutral.get(key)}
    return {"do_sample": effective["do_sample"], **fields}


def _paths(value: Any) -> Any:
    """Return a field's value with code of one's own by its path alone."""
    if isinstance(value, Mapping) and "code" in value:
        return value["path"]
    several = isinstance(value, (list, tuple)) and any(isinstance(one, Mapping) for one in value)
    return [_paths(one) for one in value] if several else value


def _describe(effective: Mapping[str, Any]) -> str:
    """Return a strategy in a few words."""
    fields = _not_neutral(effective)
    words = [] if fields.pop("do_sample") else ["greedy"]
    words += [f"{key}={value_text(_paths(value))}" for key, value in fields.items()]
    return " ".join(words) or "plain sampling"


def _print_table(replay: Replay) -> None:
    console = SafeConsole()
    old, new = _describe(replay.generated_by), _describe(replay.replayed_as)
    title = visible(f"{replay.name}, generated by {old}, replayed as {new}")
    console.print(Text(title, style="bold"), soft_wrap=True)
    several = len({sample.sample for sample, _ in replay.results}) > 1
    table = Table(box=None, padding=(0, 1, 0, 0))
    longest = max((len(sample.prompt_id) for sample, _ in replay.results), default=0)
    table.add_column("prompt", overflow="fold", min_width=min(longest, 16))
    for column in (["sample"] if several else []) + ["steps", "same", "changes"]:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("stored, replayed\n(raw → warped p)", overflow="fold")
    table.add_column("undecided", overflow="fold")
    for column in ("mean\nlogprob", "candidates\nkept"):
        table.add_column(column, justify="right", no_wrap=True)
    for sample, texts in replay.results[:_MOST_ROWS]:
        undecided = sample.undecided_at is not None
        changes = "" if sample.changes_at is None else f"{'by' if undecided else 'at'} {sample.changes_at}"
        table.add_row(
            Text(visible(sample.prompt_id)),
            *([str(sample.sample)] if several else []),
            str(sample.steps),
            str(sample.same),
            changes,
            Text("" if texts is None else _tokens(sample, *texts)),
            f"at {sample.undecided_at}, {sample.reason.name.lower()}" if undecided else "",
            _interval(*sample.mean_logprob, 3),
            _interval(*sample.kept, 1),
        )
    console.print(table)
    if (more := len(replay.results) - _MOST_ROWS) > 0:
        console.print(f"... and {more} more samples (all with --json)", style="dim")
    for line in _closing(replay):
        console.print(Text(line), soft_wrap=True)


def _tokens(sample: ReplayedSample, text: str, other_text: str | None) -> str:
    """Return the stored token and the one chosen instead, each with its raw and warped probability."""
    lines = []
    for name, raw, warped in zip((text, other_text), sample.logprob, sample.warped_logprob, strict=True):
        if name is None or raw is None or warped is None:
            lines.append("another token")
        else:
            lines.append(f"“{visible(name)}” {math.exp(raw):.3f} → {_probability(*warped)}")
    return "\n".join(lines)


def _probability(low: float, high: float) -> str:
    """Return a probability by the bounds of its logprob."""
    if high == -math.inf:
        return "removed"
    return f"{math.exp(high):.3f}" if high - low < 1e-3 else f"{math.exp(low):.3f}..{math.exp(high):.3f}"


def _interval(low: float, high: float, decimals: int) -> str:
    """Return one number if the bounds agree; a bound that says little is left out."""
    if low == -math.inf:
        return "-∞" if high == -math.inf else f"≤ {high:.{decimals}f}"
    if high > 10 * (1 + abs(low)):
        return f"≥ {low:.{decimals}f}"
    texts = f"{low:.{decimals}f}", f"{high:.{decimals}f}"
    return texts[0] if texts[0] == texts[1] else "..".join(texts)


def _closing(replay: Replay) -> list[str]:
    """Return the summary over all samples, and why some of them are undecided."""
    summary = replay.summary
    reasons = Counter(sample.reason for sample, _ in replay.results if sample.undecided_at is not None)
    lines = [
        f"{summary['same']} of {summary['samples']} samples are identical to the end, "
        f"{summary['changed']} change, {summary['undecided']} are undecided from some step on; "
        f"{summary['same_steps']} of {summary['steps']} steps are certainly identical",
    ]
    if summary["impossible"] < summary["samples"]:
        low, high = summary["mean_logprob"]
        lines.append(
            f"mean logprob {_interval(low, high, 3)} over the samples that this strategy can generate"
        )
    if summary["impossible"]:
        lines.append(
            f"{summary['impossible']} samples contain a token removed by truncation: this strategy could not "
            "have generated them"
        )
    for reason, count in sorted(reasons.items()):
        lines.append(f"{reason.name.lower()}: {reason.describe(replay.depth)} ({count} samples)")
    if Reason.UNRECORDED in reasons or Reason.THRESHOLD in reasons:
        depth = max(20, 4 * replay.depth)
        lines.append(f"record.top_k={depth} when running the sweep lets replay decide more")
    return lines
