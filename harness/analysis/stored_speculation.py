"""The speculation of a stored point: each draft's block lengths, acceptance and times; and its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.speculation_times import LoopCosts
from harness.analysis.speculative_blocks import BlockLength, break_even_cost
from harness.errors import DamagedFileError
from harness.store.files import read_json
from harness.store.stored_point import StoredPoint

UNTIMED_COST = 0.1
"""What a proposal is taken to cost, over a plain step, where it was not timed."""

FILE, TIMING_FILE = "speculation.json", "speculation_timing.json"


@dataclass(frozen=True)
class StoredDraft:
    """What is stored of one draft at a point.

    Attributes:
        kind: `model`, `prompt_lookup` or `early_exit`.
        lengths: by block length, in order.
        acceptance: the fields of `speculative_blocks.Acceptance`; None of prompt lookup.
        timing: as `timed_draft` returns it, with its `block`; None where it was not timed.
    """

    name: str
    kind: str
    lengths: tuple[BlockLength, ...]
    acceptance: Mapping[str, Any] | None
    timing: Mapping[str, Any] | None

    @property
    def chosen(self) -> BlockLength:
        """The block length that was timed, else the best one for a draft of a tenth of the model's cost."""
        if self.timing is not None:
            return next(one for one in self.lengths if one.block == self.timing["block"])
        return max(self.lengths, key=lambda one: one.tokens_per_forward / (1 + UNTIMED_COST * one.block))

    @property
    def most(self) -> float:
        """The speed-up that the forward passes of the timed outputs allow; measured is more only by noise."""
        assert self.timing is not None
        return float(self.timing["tokens"] / self.timing["forwards"])

    @property
    def disturbed(self) -> bool:
        """Whether other work of the machine disturbed the timing: it is clearly faster than it can be."""
        return self.timing is not None and self.timing["speedup"] > 1.05 * self.most

    @property
    def break_even(self) -> float:
        """The cost of a proposal over a plain step up to which the chosen block length is no slower."""
        return break_even_cost(self.chosen.tokens_per_forward, self.chosen.block)

    def promised(self, one: BlockLength) -> float | None:
        """Return the speed-up that a block length promises by the measured costs; None without any."""
        if self.timing is None:
            return None
        costs = LoopCosts(self.timing["cost"], self.timing["verify"], self.timing["block"])
        return costs.speedup(one)


def stored_drafts(stored: StoredPoint) -> tuple[StoredDraft, ...]:
    """Return a point's drafts in their order; none where it has no speculation.

    Raises:
        DamagedFileError: a file is not as it was written.
    """
    if not stored.has(FILE):
        return ()
    timed = {}
    if "speculation_timing" in stored.parts() and stored.has(TIMING_FILE):
        timed = {one["name"]: one for one in _entries(stored, TIMING_FILE)}
    found = []
    for entry in _entries(stored, FILE):
        lengths = tuple(map(_block_length, entry["blocks"]))
        if lengths:
            name = entry["name"]
            found.append(StoredDraft(name, entry["kind"], lengths, entry["acceptance"], timed.get(name)))
    return tuple(found)


def best_draft(drafts: Sequence[StoredDraft]) -> StoredDraft | None:
    """Return the draft with the highest measured speed-up, else with the most tokens per forward pass."""
    if not drafts:
        return None

    def merit(one: StoredDraft) -> tuple[float, float]:
        speedup = min(one.timing["speedup"], one.most) if one.timing else 0.0
        return (speedup, one.chosen.tokens_per_forward)

    return max(drafts, key=merit)


def speculation_metrics(stored: StoredPoint) -> dict[str, float]:
    """Return a point's metrics of speculation, of its best draft; none where it has no drafts."""
    if "speculation" not in stored.parts():
        return {}
    best = best_draft(stored_drafts(stored))
    if best is None:
        return {}
    one = best.chosen
    found = {"tokens_per_forward": one.tokens_per_forward, "block": float(one.block)}
    if one.proposed:
        found["acceptance"] = one.accepted / one.proposed
    if best.timing is not None:
        found |= {name: best.timing[name] for name in ("speedup", "draft_share", "differing")}
    return {f"speculation/{name}": float(value) for name, value in found.items()}


def _block_length(entry: Mapping[str, Any]) -> BlockLength:
    at = {name: tuple(entry[name]) for name in ("proposed_at", "accepted_at")}
    return BlockLength(**{**entry, **at})


def _entries(stored: StoredPoint, name: str) -> list[Mapping[str, Any]]:
    values = read_json(stored.path(name))
    if not isinstance(values, dict) or not isinstance(values.get("drafts"), list):
        raise DamagedFileError(stored.path(name), "is not valid JSON")
    return list(values["drafts"])
