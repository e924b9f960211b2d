"""The latency pass: timing.parquet, one strategy at a time, apart from decoding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.artifacts.artifact import Artifact, Workbench, complete
from harness.artifacts.job import Job
from harness.config.point import Point
from harness.config.timing_section import COST_KEYS
from harness.store.device_turns import BESIDE_OTHERS

if TYPE_CHECKING:
    from harness.store.records import Repetition


SHARED_NODE = (
    "latency was measured on a node that other jobs may have used at the same time, so it may be too high; "
    "add 'hydra.launcher.additional_parameters={exclusive: true}' to have nodes of SLURM alone, or give "
    "hydra.launcher.ray.remote.num_cpus all CPUs of a node of Ray"
)


def timing_spec(point: Point) -> dict[str, Any]:
    """Return what a stored timing must have been measured with to serve a point."""
    spec = point.timing.model_dump(mode="json", exclude={"name", "enabled", *COST_KEYS})
    spec["threads"] = point.engine.threads
    if point.model.devices == "auto":  # the samples are the same, and so is the address
        spec["devices"] = "auto"
    return spec


@contextmanager
def alone(job: Job, bench: Workbench) -> Iterator[None]:
    """Have the device alone while the block runs; others who share it pause meanwhile."""
    label = f"waiting to time {job.point.label} alone"
    with bench.turns.alone(lambda: bench.progress.stage(label, 1, "")):
        yield


def measure(job: Job, bench: Workbench) -> list[Repetition]:
    """Time a job's strategy as its config says."""
    timing = job.point.timing
    batches = -(-min(timing.prompts, len(job.prompts)) // timing.batch_size)
    repetitions = batches * (timing.warmup + timing.repeats)
    bench.progress.stage(f"timing {job.point.label}", repetitions, "runs")
    requests = list(job.requests(job.prompts, job.strategy(bench.backend.token_ids)))
    first_samples = requests[:: job.point.generation.samples]
    return bench.backend.time(first_samples, timing, bench.progress)


def measured_on(environment: Mapping[str, Any]) -> str:
    """Return in a few words on what was timed: the GPU, or the processor with the threads that were used."""
    machine, model = environment.get("machine", {}), environment.get("model", {})
    name = str(model.get("device_name") or machine.get("cpu") or "unknown")
    if (count := model.get("device_count", 1)) > 1:
        name = f"{count} x {name}"
    threads = machine.get("threads")
    if threads is None or str(model.get("device", "cpu")) != "cpu":
        return name  # SLURM gives a GPU to one job alone
    beside = BESIDE_OTHERS if machine.get("shares_node") else ""
    return f"{name} with {threads} thread{'s' * (threads != 1)}{beside}"


class Timing(Artifact):
    """timing.parquet."""

    name = "timing"
    action = "time"
    files = ("timing.parquet",)

    def spec(self, job: Job) -> Any:
        """Return how it is timed."""
        return timing_spec(job.point) if job.point.timing.times_strategies else None

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Time the job."""
        from harness.store.tables import timing_table

        stored = bench.stored(job)
        with alone(job, bench):
            repetitions = measure(job, bench)
        stored.write_table("timing", timing_table(repetitions))
        place = measured_on(bench.backend.environment())
        complete(stored, self, timing_spec(job.point), timed_on=place)
        return (SHARED_NODE,) if place.endswith(BESIDE_OTHERS) else ()
