"""`hydra/launcher=ray`: workers on the nodes of a Ray cluster; the keys of hydra-ray-launcher, and ours."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from harness.config.base import Natural, Positive, PositiveReal, Section
from harness.config.launcher_section import PREFIX, LauncherSection
from harness.errors import Mistake

_INIT = "ray.init."
_REMOTE = "ray.remote."
Bytes = Annotated[int, Field(ge=1, le=2**53)]


class RayInit(Section):
    """What `ray.init` is called with."""

    address: str | None = Field(
        None,
        description="auto, HOST:6379 or ray://HOST:10001; null: RAY_ADDRESS, else a cluster on this machine",
    )
    num_cpus: Positive | None = Field(None, description="CPUs of a cluster on this machine; null: all")
    num_gpus: Natural | None = Field(None, description="GPUs of a cluster on this machine; null: all")
    resources: dict[str, float] = Field({}, description="resources of your own of a cluster on this machine")
    object_store_memory: Bytes | None = Field(None, description="bytes; of a cluster on this machine")
    namespace: str | None = Field(None, description="Ray's namespace")
    runtime_env: dict[str, Any] = Field({}, description="the workers' environment: pip, env_vars, ...")
    include_dashboard: bool = Field(False, description="Ray's dashboard, of a cluster on this machine")
    log_to_driver: bool = Field(False, description="show what Ray's processes print")


class RayRemote(Section):
    """What Ray is asked for each worker."""

    num_cpus: PositiveReal = Field(1, description="CPUs of each worker, and its threads")
    num_gpus: float | None = Field(
        None,
        ge=0,
        le=1024,
        description="GPUs of each worker; null: 1 if this machine has one, without an address",
    )
    memory: Bytes | None = Field(None, description="bytes that each worker reserves")
    resources: dict[str, float] = Field({}, description="resources of your own that each worker needs")
    accelerator_type: str | None = Field(None, description="the kind of GPU, as in A100: latencies compare")
    label_selector: dict[str, str] = Field({}, description="labels of the nodes")
    scheduling_strategy: Literal["DEFAULT", "SPREAD"] = Field("DEFAULT", description="SPREAD: over the nodes")
    runtime_env: dict[str, Any] = Field({}, description="as in ray.init, of the workers alone")
    max_calls: Literal[1] = Field(1, description="each worker is a process of its own")


class RaySection(Section):
    """What is Ray's own."""

    init: RayInit = RayInit()
    remote: RayRemote = RayRemote()


class RayLauncher(LauncherSection):
    """`hydra/launcher=ray`: workers on the nodes of a Ray cluster."""

    NAME = "ray"
    SUMMARY = "groups side by side on a Ray cluster: a worker for each that fits"
    GPUS = "ray.remote.num_gpus"
    SAME: ClassVar = {
        "n_jobs": "workers",
        "gpus": "ray.remote.num_gpus",
        "gpus_per_worker": "ray.remote.num_gpus",
        "gpus_per_node": "ray.remote.num_gpus",
        "mem_gb": "ray.remote.memory",
        "cpus_per_task": "ray.remote.num_cpus",
        "ray.remote.max_retries": "retries",
        "ray.remote.max_restarts": "retries",
        "ray.init.dashboard_host": "ray.init.include_dashboard",
    }
    GUIDE = """\
  harness -m model=mistral_7b quantization=bf16,bnb_nf4 hydra/launcher=ray \\
    hydra.launcher.ray.init.address=auto hydra.launcher.ray.remote.num_gpus=1
  harness -m ... hydra/launcher=ray    # a cluster on this machine, for this run

Needs pip install 'decoding-harness[ray]' here and on the nodes. Where nodes do not see the store of this
machine, what a group needs is sent to its worker and its points come back as they are made (store). A cluster
with tokens: RAY_AUTH_TOKEN, or ~/.ray/auth_token. A worker that dies is started again and goes on with the
kept batches. Ctrl-C ends all workers; the same command again goes on."""

    workers: Literal["auto"] | Positive = Field(
        "auto", description="workers at once, at most; auto: as many as the cluster has room for"
    )
    store: Literal["auto", "shared", "ship"] = Field(
        "auto", description="shared: nodes see this machine's store; ship: files are sent; auto: looked up"
    )
    autoscale: bool = Field(False, description="nodes that a worker needs may come later")
    gpu_memory_gb: PositiveReal | None = Field(
        None, description="of one GPU of the nodes, for `harness plan`"
    )
    ray: RaySection = RaySection()

    @property
    def address(self) -> str | None:
        """The cluster that it connects to; None for one of its own on this machine."""
        address = self.ray.init.address or os.environ.get("RAY_ADDRESS") or None
        return None if address == "local" else address

    @property
    def device(self) -> str | None:
        """The kind that `ray.remote.num_gpus` gives each worker; None for this machine's."""
        gpus = self.ray.remote.num_gpus
        return None if gpus is None else "cuda" if gpus else "cpu"

    @property
    def worker_gpus(self) -> int | None:
        """GPUs of a worker; 1 where it has a share of one."""
        gpus = self.ray.remote.num_gpus
        return None if gpus is None else math.ceil(gpus)

    @property
    def device_gb(self) -> float | None:
        """`gpu_memory_gb`, or a worker's share of it."""
        share = min(1.0, self.ray.remote.num_gpus or 1)
        return None if self.gpu_memory_gb is None else self.gpu_memory_gb * share

    def mistakes(self) -> Iterator[Mistake]:
        """Yield what Ray would refuse, and what would leave the workers' device unknown."""
        init, remote = self.ray.init, self.ray.remote
        gpus = remote.num_gpus
        if gpus is not None and gpus > 1 and gpus % 1:
            yield self.wrong(f"{_REMOTE}num_gpus", "must be whole above 1; a share of one GPU is below 1")
        if remote.num_cpus > 1 and remote.num_cpus % 1:
            yield self.wrong(f"{_REMOTE}num_cpus", "must be whole above 1; a share of one CPU is below 1")
        if self.address is None:
            return
        given = init.address or f"RAY_ADDRESS={self.address}"
        if gpus is None:
            cure = "set it to 1, or to 0 for workers without a GPU"
            problem = f"is needed with a cluster's address ({given}); {cure}"
            yield Mistake(f"{PREFIX}{_REMOTE}num_gpus", problem)
        for name in ("num_cpus", "num_gpus", "resources", "object_store_memory"):
            if getattr(init, name) not in (None, {}):
                problem = f"is of a new cluster, {given} is running; leave it out, or leave out the address"
                yield self.wrong(f"{_INIT}{name}", problem)
