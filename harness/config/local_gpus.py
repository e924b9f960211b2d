"""`hydra/launcher=local_gpus`: worker processes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harness.config.base import Natural, Positive
from harness.config.launcher_section import LauncherSection
from harness.errors import Mistake

_GPUS = "auto or a list of different numbers, as in [0,2]"


class LocalGpus(LauncherSection):
    """`hydra/launcher=local_gpus`: worker processes on this machine."""

    NAME = "local_gpus"
    SUMMARY = "groups side by side: a worker process for each GPU of this machine"
    SAME: ClassVar = {"n_jobs": "workers", "tasks_per_node": "workers", "gpus_per_node": "gpus_per_worker"}
    VALUES: ClassVar = {"gpus": _GPUS}
    GUIDE = """\
  harness -m model=mistral_7b quantization=bf16,bnb_nf4 decoding=greedy,top_p hydra/launcher=local_gpus
  harness experiments=demo hydra/launcher=local_gpus hydra.launcher.gpus=[0,2]

One store, one page and one model load a group, as without it. `harness plan` shows how groups go to workers;
each has a log in workers/ of the sweep's folder. A worker that dies is started again and goes on with its
kept batches; where it dies twice at the same place, these points fail and the others run on. Latency is
measured alone on its device. Ctrl-C ends all workers; the same command again goes on."""

    workers: Literal["auto"] | Positive = Field(
        "auto", description="worker processes; auto: one for each set of GPUs, one without a GPU"
    )
    gpus_per_worker: Positive = Field(1, description="GPUs that each worker sees")
    gpus: Literal["auto"] | Annotated[tuple[Natural, ...], Field(min_length=1)] = Field(
        "auto", description="the GPUs to use, as in [0,2]; auto: all that CUDA_VISIBLE_DEVICES leaves"
    )

    @property
    def worker_gpus(self) -> int | None:
        """GPUs that each worker sees, where there are any."""
        return self.gpus_per_worker

    def mistakes(self) -> Iterator[Mistake]:
        """Refuse a GPU that is named twice."""
        if self.gpus != "auto" and len(set(self.gpus)) < len(self.gpus):
            yield self.wrong("gpus", f"must be {_GPUS}")
