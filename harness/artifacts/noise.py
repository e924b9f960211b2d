"""The noise floor: noise.json, how far numbers move when the same strategy is run again.

It costs next to nothing: a few stored outputs are read once more, each by itself, and compared with what was
recorded while they were decoded in a batch; latencies were timed several times anyway.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.artifacts.artifact import Artifact, Workbench, complete
from harness.artifacts.job import Job
from harness.artifacts.timing import timing_spec
from harness.prompts.prompt import Prompt
from harness.store.files import storable

if TYPE_CHECKING:
    from harness.store.stored_point import StoredPoint
    from harness.store.token_table import TokenColumns

SHARE = 0.03
"""Positions that are read again at most, of those that decoding computed: prompts, and a row a step. Reading
a position of a whole text takes no longer than decoding it, so with what a pass costs besides the floor stays
below 5% of the decoding time (but for sweeps that decode for a fraction of a second)."""
MOST_POSITIONS = 512
MOST_SECONDS = 2.0
"""No more outputs are begun after so long."""


class NoiseFloor(Artifact):
    """noise.json, of one point of each group."""

    name = "noise"
    action = "noise floor"
    files = ("noise.json",)
    after = ("record", "timing")

    def spec(self, job: Job) -> Any:
        """Return how it was timed, where the floor is measured at this job."""
        if not job.measures_noise:
            return None
        return {"timing": timing_spec(job.point) if job.point.timing.times_strategies else None}

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Read some outputs again, and see how much repetitions of the same prompt differ."""
        from harness.analysis.noise_floor import timing_noise
        from harness.store.tables import repetitions_of

        stored = bench.stored(job)
        bench.progress.stage(f"noise floor at {job.point.label}", 1, "passes")
        started = time.perf_counter()
        found: dict[str, Any] = {"metrics": {}, "rounding": None}
        if bench.backend.capabilities.teacher_forcing and job.target.cache is None:
            found |= _rounding(job, bench, stored)
        if "timing" in stored.parts():
            found["metrics"] |= timing_noise(repetitions_of(stored.table("timing")))
        stored.write_json("noise.json", found | {"seconds": time.perf_counter() - started})
        complete(stored, self, self.spec(job))
        bench.progress.advance()
        return ()


def outputs_to_read(prompts: Sequence[Prompt], rows: int, longest: int) -> dict[str, int]:
    """Return how many tokens of the first output of which prompts may be read again, by prompt id.

    The shortest prompts come first, since their positions are read too.

    Args:
        prompts: of the point.
        rows: decoder rows that were computed after the prompts.
        longest: tokens of an output at most.
    """
    decoded = rows + sum({prompt.ids: len(prompt.ids) for prompt in prompts}.values())
    left = min(MOST_POSITIONS, int(SHARE * decoded))
    found = {}
    for prompt in sorted(prompts, key=lambda prompt: len(prompt.ids)):
        tokens = min(longest, left - len(prompt.ids))
        if tokens <= 0:
            break
        found[prompt.id] = tokens
        left -= len(prompt.ids) + tokens
    return found


def _rounding(job: Job, bench: Workbench, stored: StoredPoint) -> dict[str, Any]:
    """Return `metrics` and `rounding` of noise.json; nothing where too little was decoded to read any."""
    from harness.analysis.noise_floor import rounding

    rows = int(stored.parts()["facts"].get("rows") or 0)
    lengths = outputs_to_read(job.prompts, rows, job.point.generation.max_new_tokens)
    strategy = job.strategy(bench.backend.token_ids)
    recorded, again, chosen = [], [], []
    started = time.perf_counter()
    for prompt, sample in _first_outputs(stored, [p for p in job.prompts if p.id in lengths]):
        columns = {name: values[: lengths[prompt.id]] for name, values in sample.columns.items()}
        tokens = columns["token_id"].tolist()
        if not tokens or time.perf_counter() - started > MOST_SECONDS:
            break
        read = bench.backend.read_again(job.request(prompt, sample.sample, strategy), tokens)
        recorded.append(columns)
        again.append(read.columns)
        chosen.append(read.chosen)
    if not recorded:
        return {}
    moved, metrics = rounding(recorded, again, chosen)
    return {"metrics": metrics, "rounding": asdict(moved)}


def _first_outputs(stored: StoredPoint, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, TokenColumns]]:
    """Yield the first stored output of each of these prompts."""
    from harness.analysis.metrics.probability import STEP_COLUMNS
    from harness.store.token_table import collect_samples, read_blocks

    by_id: Mapping[str, Prompt] = {storable(prompt.id): prompt for prompt in prompts}
    columns = ("position", "token_id", *STEP_COLUMNS)
    samples = collect_samples(read_blocks(stored, "tokens", columns, prompts=by_id.keys()))
    for prompt_id, prompt in by_id.items():
        if (prompt_id, 0) in samples:
            yield prompt, samples[prompt_id, 0]
