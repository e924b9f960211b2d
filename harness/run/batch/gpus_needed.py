"""How many GPUs a group needs: its weights and the cache of one batch over the memory of a GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.backends.backend import TokenIds
from harness.config.submitit_launchers import BatchLauncher
from harness.models.memory import format_bytes
from harness.plan.plan import Group, Plan
from harness.run.workers import counted

_BESIDE = 1.2
"""Activations and what an allocator cannot use come to a fifth of the weights, as a rule of thumb."""


@dataclass(frozen=True)
class Need:
    """What a group's job asks for: GPUs, None where the launcher's other options say it; and in words."""

    gpus: int | None
    words: str


def gpus_needed(plan: Plan, group: Group, launcher: BatchLauncher) -> Need:
    """Return what a group's job asks for."""
    if launcher.gpus_per_node != "auto":
        gpus = launcher.gpus_per_node
        if launcher.device == "cpu":
            return Need(gpus, "on CPUs")
        return Need(gpus, "GPUs as asked for" if gpus is None else f"{counted(gpus, 'GPU')} each")
    jobs = [plan.jobs[index] for index in group.jobs]
    model, weights = jobs[0].point.model, jobs[0].target.weight_bytes
    if jobs[0].point.backend.kind == "vllm":
        gpus = jobs[0].point.backend.tensor_parallel_size
        return Need(gpus, f"{counted(gpus, 'GPU')} each")
    if model.devices == "tensor_parallel":
        gpus = jobs[0].target.devices
        return Need(gpus, f"{counted(gpus, 'GPU')} each, which share each layer")
    if launcher.gpu_memory_gb is None or weights is None:
        unknown = "hydra.launcher.gpu_memory_gb is not given" if weights else "the weights are not known"
        return Need(1, f"1 GPU each, since {unknown}")
    requests = [(job.target, job.longest_request(job.strategy(TokenIds()))) for job in jobs]
    cache = max(target.estimate([request], 1).cache_bytes for target, request in requests)
    needed = _BESIDE * weights + cache
    gpus = max(1, math.ceil(needed / (launcher.gpu_memory_gb * 1e9)))
    each = f"{counted(gpus, 'GPU')} of {launcher.gpu_memory_gb:g} GB"
    if gpus > 1 and model.devices == "single":
        each = f"1 GPU of {launcher.gpu_memory_gb:g} GB, which may be too small; add model.devices=auto:"
        gpus = 1
    return Need(gpus, f"{each} for {format_bytes(weights)} of weights and {format_bytes(cache)} of cache")
