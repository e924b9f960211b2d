"""A made-up sweep whose points were tried with drafts: files as the artifacts write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fake_points import HOSTILE, make_sweep

from harness.analysis.speculative_blocks import BlockLength
from harness.store.stored_point import StoredPoint, stored_point
from harness.store.sweeps import Sweep

BLOCKS = (1, 2, 4)
SPEEDUPS = {"greedy": (1.5, 1.4, 1.6), "top_p": (0.9, 0.8, 0.95)}
"""By strategy: the speed-up and its interval with the first draft; the second is at 0.5."""


def length(block: int, forwards: int) -> BlockLength:
    """60 tokens in so many forward passes, all of whose blocks were complete."""
    accepted = 60 - forwards
    first = min(forwards, accepted)
    at = (first, *[(accepted - first) // max(block - 1, 1)] * (block - 1))
    return BlockLength(block, 60, forwards, block * forwards, accepted, (forwards,) * block, at)


def timing(name: str, block: int, speedup: Sequence[float]) -> dict[str, Any]:
    return {
        "name": name, "block": block, "speedup": speedup[0], "speedup_interval": list(speedup[1:]),
        "draft_share": 0.4, "cost": 0.25, "verify": 1.0, "texts": 2, "tokens": 60, "forwards": 30,
        "differing": 1,
    }  # fmt: skip


def write_drafts(stored: StoredPoint, decoding: str, timed: bool = True, name: str = "small one") -> None:
    """Write what two drafts made of a point: the first gives 1.5, 2 and 2.5 tokens per forward pass."""
    known = {"mean": 0.7, "se": 0.02}
    theory = {"positions": 60, "observed": 0.71, "coupling": known, "overlap": {"mean": 0.72, "se": 0.03}}
    with_model = [asdict(length(*one)) for one in zip(BLOCKS, (40, 30, 24), strict=True)]
    drafts = [
        {"name": name, "kind": "model", "acceptance": theory, "blocks": with_model},
        {"name": "prompt lookup", "kind": "prompt_lookup", "acceptance": None,
         "blocks": [asdict(length(block, 60)) for block in BLOCKS]},
    ]  # fmt: skip
    stored.write_json("speculation.json", {"drafts": drafts})
    parts: dict[str, Any] = {"speculation": {}}
    if timed:
        both = [timing(name, 2, SPEEDUPS[decoding]), timing("prompt lookup", 4, (0.5, 0.4, 0.6))]
        stored.write_json("speculation_timing.json", {"obstacle": None, "drafts": both})
        parts["speculation_timing"] = {}
    stored.write_parts(parts)


def drafted_sweep(outputs: Path, timed: bool = True, hostile: bool = False) -> Sweep:
    """Two strategies of one model, and one that failed."""
    sweep = make_sweep(outputs, models=("m",), failed="temperature", tokens=6)
    for point in sweep.points[:2]:
        name = HOSTILE["script"] if hostile else "small one"
        write_drafts(stored_point(outputs, point.point_id), point.decoding, timed, name)
    return sweep
