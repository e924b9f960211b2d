"""The noise floor: noise.json, how far metrics move when a strategy is run again, or alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.analysis.noise_floor import PROMPTS, changes, mean_metrics
from harness.artifacts.artifact import Artifact, Workbench, complete
from harness.artifacts.job import Job
from harness.artifacts.timing import measure, timing_spec
from harness.backends.backend import Failure, Request

if TYPE_CHECKING:
    from harness.store.records import Sample


class NoiseFloor(Artifact):
    """noise.json, of one point of each group."""

    name = "noise"
    action = "noise floor"
    files = ("noise.json",)
    after = ("record",)

    def spec(self, job: Job) -> Any:
        """Return what is timed again, where the floor is measured at this job."""
        if not job.measures_noise:
            return None
        return {"timing": timing_spec(job.point) if job.point.timing.enabled else None}

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Decode some prompts together, together again and one by one, and time once more."""
        from harness.analysis.latency import latency_metrics
        from harness.store.tables import repetitions_of

        stored = bench.stored(job)
        prompts = job.prompts[:PROMPTS]
        strategy = job.strategy(bench.backend.token_ids)
        tokens = 3 * len(prompts) * strategy.max_new_tokens
        bench.progress.stage(f"decoding {job.point.label} for the noise floor", tokens, "tokens")
        requests = [job.request(prompt, 0, strategy) for prompt in prompts]
        together, again = _decoded(requests, bench), _decoded(requests, bench)
        alone = [sample for request in requests for sample in _decoded([request], bench)]
        floor = changes(_metrics(together), [_metrics(again), _metrics(alone)])
        if "timing" in stored.parts():
            timed = repetitions_of(stored.table("timing"))
            first, second = (latency_metrics(runs)[0] for runs in (timed, measure(job, bench)))
            floor |= changes(first, [second])
        floor = {key: value for key, value in floor.items() if math.isfinite(value)}
        stored.write_json("noise.json", {"metrics": floor, "prompts": len(prompts)})
        complete(stored, self, self.spec(job))
        return ()


def _decoded(requests: Sequence[Request], bench: Workbench) -> list[Sample]:
    samples = []
    for answer in bench.backend.generate(requests, bench.progress):
        if isinstance(answer, Failure):
            raise answer.error
        samples.append(answer)
    return samples


def _metrics(samples: Sequence[Sample]) -> dict[str, float]:
    from harness.analysis.metrics.probability import step_sums
    from harness.artifacts.compute_metrics import sample_values
    from harness.store.tables import generations_table

    rows = generations_table(samples).to_pylist()
    steps = [{} if one.steps is None else one.steps.numbers() for one in samples]
    return mean_metrics(
        [sample_values(row, step_sums(known)) for row, known in zip(rows, steps, strict=True)]
    )
