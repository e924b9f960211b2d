"""Speculative decoding as JSON of the page: what each draft gives with every block length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.point_results import PointResult
from harness.analysis.speculative_blocks import BlockLength
from harness.analysis.stored_speculation import StoredDraft, best_draft, stored_drafts
from harness.report.page.shell import short


def speculation_rows(points: Sequence[PointResult]) -> list[dict[str, Any]]:
    """Return an entry for each run and draft; a run is referred to by its index."""
    rows = []
    for index, p in enumerate(points):
        if p.stored is None or p.selected_from:
            continue
        drafts = stored_drafts(p.stored)
        best = best_draft(drafts)
        rows += [{"point": index, "best": one == best, **_row(one)} for one in drafts]
    return rows


def _row(one: StoredDraft) -> dict[str, Any]:
    chosen, timing, known = one.chosen, one.timing, one.acceptance
    return {
        "draft": one.name,
        "kind": one.kind,
        "block": chosen.block,
        "accepted": short(chosen.accepted / chosen.proposed) if chosen.proposed else None,
        "breakEven": short(one.break_even, 3),
        "lengths": [
            [each.block, short(each.tokens_per_forward), _short(one.promised(each))]
            for each in one.lengths
        ],
        "places": _places(one.lengths[-1]),
        "theory": known and [
            short(known["observed"]), *(short(known[name][part]) for name in ("coupling", "overlap")
                                        for part in ("mean", "se")), known["positions"],
        ],
        "timing": timing and [
            short(timing[name]) for name in ("speedup", "draft_share", "cost", "differing", "texts")
        ] + [_short(end) for end in (*(timing["speedup_interval"] or (None, None)), one.most)],
    }  # fmt: skip


def _places(longest: BlockLength) -> list[float | int | None]:
    """Return the share of proposals at each place of the longest blocks that are accepted."""
    pairs = zip(longest.accepted_at, longest.proposed_at, strict=True)
    return [short(accepted / proposed) if proposed else None for accepted, proposed in pairs]


def _short(value: float | None) -> float | int | None:
    return None if value is None else short(value)
