"""`hydra/launcher=submitit_slurm` and `submitit_local`: groups as jobs of a batch system.

The keys, their types and their defaults are those of hydra-submitit-launcher, which need not be installed;
some are ours. What would start several processes for one group is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.config.base import Natural, Positive, PositiveReal
from harness.config.launcher_section import LauncherSection
from harness.errors import Mistake

_ONE_PROCESS = "a group is run by one process, which loads its model once; leave it out"


class BatchLauncher(LauncherSection):
    """The keys of both launchers."""

    GPUS = "gpus_per_node"

    submitit_folder: str = Field(
        "workers",
        description="folder of job scripts and their output; a relative one is in the sweep's folder",
    )
    timeout_min: Positive = Field(60, description="longest time of a job, in minutes")
    cpus_per_task: Positive | None = Field(None, description="CPUs of a job")
    gpus_per_node: Literal["auto"] | Natural | None = Field(
        None, description="GPUs of a job; auto: as many as its weights and cache need; none: it runs on CPUs"
    )
    gpu_memory_gb: PositiveReal | None = Field(
        None, description="memory of one of the GPUs, in GB; what `auto` and `harness plan` reckon with"
    )
    tasks_per_node: Positive = Field(1, description="1: a group is run by one process")
    mem_gb: PositiveReal | None = Field(None, description="memory of a job, in GB")
    nodes: Positive = Field(1, description="1: a group is run by one process")
    name: str = Field("harness", description="name of the jobs")
    stderr_to_stdout: bool = Field(False, description="whether a job's own output is one file, not two")
    wait: bool = Field(
        True, description="whether the command waits for the jobs; false: it submits them and ends"
    )

    @property
    def device(self) -> str | None:
        """`cuda` where jobs have GPUs, else `cpu`."""
        return "cuda" if self.gpus_per_node else "cpu"

    @property
    def worker_gpus(self) -> int | None:
        """GPUs of a job, where it is a number that is given."""
        return self.gpus_per_node if isinstance(self.gpus_per_node, int) else None

    @property
    def device_gb(self) -> float | None:
        """The memory of one GPU."""
        return self.gpu_memory_gb

    def mistakes(self) -> Iterator[Mistake]:
        """Refuse several processes for a group."""
        for key in ("nodes", "tasks_per_node"):
            if getattr(self, key) > 1:
                yield self.wrong(key, _ONE_PROCESS)
        if self.gpu_memory_gb is not None and self.device != "cuda":
            yield self.wrong("gpu_memory_gb", "no effect without GPUs; add hydra.launcher.gpus_per_node=auto")


class SubmititLocal(BatchLauncher):
    """`hydra/launcher=submitit_local`: jobs of this machine."""

    NAME = "submitit_local"
    SUMMARY = "jobs of this machine, one after the other: a rehearsal of submitit_slurm"
    SAME: ClassVar = {"workers": "cpus_per_task"}
    GUIDE = """\
  harness experiments=demo hydra/launcher=submitit_local hydra.launcher.wait=false

Job scripts, records and lines of progress are as with submitit_slurm, without a cluster. Jobs run on behind
the command with wait=false, which then says how to go on. For several GPUs use hydra/launcher=local_gpus."""


class SubmititSlurm(BatchLauncher):
    """`hydra/launcher=submitit_slurm`: job arrays of SLURM."""

    NAME = "submitit_slurm"
    SUMMARY = "groups as job arrays of a SLURM cluster, whose nodes share the store's folder"
    GUIDE = """\
  harness -m model=mistral_7b quantization=bf16,bnb_nf4 decoding=greedy,top_p \\
    hydra/launcher=submitit_slurm hydra.launcher.partition=gpu hydra.launcher.gpus_per_node=1 \\
    hydra.launcher.cpus_per_task=8 hydra.launcher.mem_gb=64 hydra.launcher.timeout_min=240

One job a group, which loads its model once; one array a wave, those first that others are compared with.
Weights are fetched before anything is submitted. A preempted job is queued again and goes on with its kept
batches; one that dies is started again up to `retries` times; one that was cancelled is not. Ctrl-C cancels
all jobs, kill -9 leaves them: the same command goes on with what is still queued or running.
docs/guides/slurm.md explains each error."""
    SAME: ClassVar = {
        "workers": "array_parallelism",
        "n_jobs": "array_parallelism",
        "gpus_per_worker": "gpus_per_node",
    }

    partition: str | None = Field(None, description="partition, or several with commas")
    qos: str | None = Field(None, description="quality of service")
    comment: str | None = Field(None, description="comment of the jobs")
    constraint: str | None = Field(
        None, description="features of the nodes, as in a100; latencies compare on one kind of GPU only"
    )
    exclude: str | None = Field(None, description="nodes to avoid")
    gres: str | None = Field(None, description="generic resources, as in gpu:a100:1")
    cpus_per_gpu: Positive | None = Field(None, description="CPUs for each GPU; with gpus_per_task")
    gpus_per_task: Natural | None = Field(None, description="GPUs of a job, in place of gpus_per_node")
    mem_per_gpu: str | None = Field(None, description="memory for each GPU, as in 40G")
    mem_per_cpu: str | None = Field(None, description="memory for each CPU, as in 4G")
    account: str | None = Field(None, description="account that is charged")
    signal_delay_s: Positive = Field(
        120, description="seconds before its time limit at which a job is told to end"
    )
    max_num_timeout: Natural = Field(
        0, description="how often a job that reaches its time limit is queued again, beside `retries`"
    )
    python: str | None = Field(None, description="command of Python on the nodes; this one's own by default")
    additional_parameters: dict[str, Any] = Field(
        default_factory=dict, description="further options of sbatch, as in {exclusive: true}"
    )
    array_parallelism: Positive = Field(256, description="jobs that run at once at most")
    setup: tuple[str, ...] | None = Field(
        None, description="shell lines that run first, as in [module load cuda]"
    )
    srun_args: tuple[str, ...] | None = Field(None, description="further arguments of srun")

    @property
    def worker_gpus(self) -> int | None:
        """GPUs of a job, where it is a number that is given."""
        return super().worker_gpus or self.gpus_per_task or None

    @property
    def device(self) -> str | None:
        """`cuda` where jobs have GPUs, by whichever option, else `cpu`."""
        asked = [self.gpus_per_node, self.gpus_per_task, "gpu" in (self.gres or "")]
        asked += [value for key, value in self.additional_parameters.items() if key.startswith("gpus")]
        return "cuda" if any(asked) else "cpu"

    def mistakes(self) -> Iterator[Mistake]:
        """Refuse several processes for a group, and options that contradict each other."""
        yield from super().mistakes()
        if self.cpus_per_gpu and not self.gpus_per_task:
            yield self.wrong("cpus_per_gpu", "needs hydra.launcher.gpus_per_task=1; or use cpus_per_task")
        if self.gpus_per_task and self.gpus_per_node:
            yield self.wrong("gpus_per_task", "contradicts gpus_per_node; leave one of them out")
        for key in self.additional_parameters:
            if key in ("array", "ntasks", "ntasks-per-node", "nodes", "output", "error", "dependency"):
                yield self.wrong("additional_parameters", f"{key} is set by the harness; leave it out")
