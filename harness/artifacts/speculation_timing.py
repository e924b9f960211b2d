"""Speculation timed: speculation_timing.json, the real loop in turns with plain decoding of the same texts.

The loop generates stored samples again, so that its tokens are compared with theirs: a difference is one of
rounding, where several positions were read in one pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.artifacts.artifact import Artifact, Workbench, complete
from harness.artifacts.job import Job
from harness.artifacts.speculation import speculation_spec, stored_texts
from harness.artifacts.timing import alone, timing_spec
from harness.backends.drafting import Draft, Speculator

if TYPE_CHECKING:
    from harness.analysis.speculative_blocks import BlockLength, SpeculativeText
    from harness.backends.backend import Request

Texts = Sequence[tuple["Request", Sequence[int]]]


class SpeculationTiming(Artifact):
    """speculation_timing.json."""

    name = "speculation_timing"
    action = "time drafts"
    files = ("speculation_timing.json",)
    after = ("record", "speculation")

    def spec(self, job: Job) -> Any:
        """Return the drafts, and how they are timed; None where nothing is timed."""
        asked = speculation_spec(job)
        return (
            {**asked, "timing": timing_spec(job.point)}
            if asked and job.point.timing.times_strategies
            else None
        )

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Run the loop with each draft, and without any."""
        from harness.analysis.stored_speculation import stored_drafts

        stored, speculator = bench.stored(job), bench.backend.speculator
        if speculator is None:
            return ()
        warnings: tuple[str, ...] = ()
        found: dict[str, Any] = {"obstacle": speculator.obstacle, "drafts": []}
        if speculator.obstacle is not None:
            warnings = (f"speculation is not timed: {speculator.obstacle}",)
        else:
            timing = job.point.timing
            texts = _first_texts(job, bench, timing.prompts)
            runs = len(texts) * (1 + len(job.drafts)) * (1 + timing.repeats)
            lengths = {one.name: one.lengths for one in stored_drafts(stored)}
            timed = _Turns(speculator, texts, bench)
            if texts:  # some output has a token
                with alone(job, bench):
                    bench.progress.stage(f"timing drafts of {job.point.label}", runs, "runs")
                    found["drafts"] = timed.measure(job.drafts, lengths, timing.repeats)
        stored.write_json("speculation_timing.json", found)
        complete(stored, self, self.spec(job))
        return warnings


def _first_texts(job: Job, bench: Workbench, count: int) -> Texts:
    found = []
    for request, tokens in stored_texts(job, bench, bench.stored(job)):
        if request.sample == 0 and tokens:
            found.append((request, tokens))
            if len(found) == count:
                break
    return found


class _Turns:
    """Runs of the same texts, plain and with each draft, one after the other."""

    def __init__(self, speculator: Speculator, texts: Texts, bench: Workbench) -> None:
        self._speculator, self._texts, self._bench = speculator, texts, bench

    def measure(
        self, drafts: Sequence[Draft], lengths: Mapping[str, Sequence[BlockLength]], repeats: int
    ) -> list[dict[str, Any]]:
        """Return an entry for each draft; what warms the loops up says which block length is timed."""
        from harness.analysis.speculation_times import loop_costs, timed_draft

        plain = self._run(None, 0)
        per_token = sum(run.seconds for run in plain) / sum(len(run.tokens) for run in plain)
        blocks = {}
        for draft in drafts:
            known = lengths[draft.name]
            probe = min(known, key=lambda one: abs(one.block - 4)).block
            costs = loop_costs(per_token, probe, self._run(draft, probe))
            blocks[draft.name] = costs.best_of(known)
        turns: list[tuple[list[SpeculativeText], dict[str, list[SpeculativeText]]]] = []
        for _ in range(repeats):
            plain = self._run(None, 0)
            turns.append((plain, {draft.name: self._run(draft, blocks[draft.name]) for draft in drafts}))
        tokens = [tokens for _, tokens in self._texts]
        return [
            {"name": draft.name, "block": blocks[draft.name]}
            | timed_draft(
                blocks[draft.name], tokens, [(plain, with_draft[draft.name]) for plain, with_draft in turns]
            )
            for draft in drafts
        ]

    def _run(self, draft: Draft | None, block: int) -> list[SpeculativeText]:
        found = []
        for request, _ in self._texts:
            found.append(self._speculator.run(request, draft, block))
            self._bench.progress.advance()
        return found
