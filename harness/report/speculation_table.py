"""The table of speculative decoding for the terminal: a row per run and draft."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from harness.analysis.point_results import PointResult
from harness.analysis.stored_speculation import StoredDraft, best_draft, stored_drafts
from harness.report.point_names import short_names
from harness.report.terminal_table import wrapped
from harness.terminal import visible

MOST_ROWS = 40
"""Rows of the table; where there would be more, each run has its best draft only."""

WIDE = 100
"""Columns of a terminal from which the interval of a speed-up and the draft's share of time are shown."""


def speculation_table(points: Sequence[PointResult], width: int) -> Group | None:
    """Return the table; None where no run has a draft."""
    names = short_names([p.point for p in points])
    every = [
        (name, drafts)
        for p, name in zip(points, names, strict=True)
        if p.stored and not p.selected_from and (drafts := stored_drafts(p.stored))
    ]
    if not every:
        return None
    rows = [(name, one) for name, drafts in every for one in drafts]
    if len(rows) > MOST_ROWS:
        rows = [(name, one) for name, drafts in every if (one := best_draft(drafts))]
    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    room = max(12, width - (78 if wide else 56))
    table.add_column("  run", no_wrap=True)
    table.add_column("draft", overflow="fold", max_width=18)
    for header in (
        "block",
        "tokens/\nforward",
        "accepted",
        "speed-up",
        *(["draft's\nshare"] if wide else []),
    ):
        table.add_column(header, justify="right", no_wrap=True)
    best = {name: best_draft(drafts) for name, drafts in every}
    for name, group in groupby(rows, lambda row: row[0]):
        its = [one for _, one in group]
        lines = [f"  {line}" for line in wrapped(visible(name), room)]
        for place, one in enumerate(its):
            last = place == len(its) - 1
            shown = "\n".join(lines[place:] if last else lines[place : place + 1])
            style = "bold" if one == best[name] and len(its) > 1 else ""
            table.add_row(shown, visible(one.name), *(Text(text, style) for text in _cells(one, wide)))
    differ = sum(int(one.timing["differing"]) for _, one in rows if one.timing)
    below = ["speed-up: of the timed block length, measured in turns with plain decoding of the same outputs"]
    if any(one.timing for _, one in rows):
        below.append(f"{differ or 'no'} token{'' if differ == 1 else 's'} of them differ from plain decoding")
        if any(one.disturbed for _, one in rows):
            below.append("a speed-up above tokens/forward is due to other work of the machine")
    else:
        below = ["speed-up is measured with timing=quick"]
    dim = [Text(line, "dim") for line in below]
    return Group(Text("Speculative decoding", "bold"), table, Text(), *dim)


def _cells(one: StoredDraft, wide: bool) -> list[str]:
    chosen, timing = one.chosen, one.timing
    accepted = f"{100 * chosen.accepted / chosen.proposed:.0f}%" if chosen.proposed else "–"
    speedup, share = "–", "–"
    if timing is not None:
        speedup = f"{timing['speedup']:.2f}×"
        if wide and timing["speedup_interval"]:
            low, high = timing["speedup_interval"]
            speedup += f" [{low:.2f}, {high:.2f}]"
        share = f"{100 * timing['draft_share']:.0f}%"
    found = [str(chosen.block), f"{chosen.tokens_per_forward:.2f}", accepted, speedup]
    return [*found, share] if wide else found
