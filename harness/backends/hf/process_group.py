"""torch's process group of the ranks of a model, all on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from harness.models.tensor_parallel import Rank

_PATIENCE = timedelta(hours=2)
"""Ranks that read large weights from a disk may be far apart; one that has ended is noticed otherwise."""
_INTERFACE = "GLOO_SOCKET_IFNAME"


def join_group(folder: Path, rank: Rank, cuda: bool) -> None:
    """Join the group of all ranks, which meet in a folder; return once every rank is there."""
    device = None
    if cuda:
        device = torch.device("cuda", rank.number)
        torch.cuda.set_device(device)
    with _loopback():
        distributed.init_process_group(
            "nccl" if cuda else "gloo",
            store=distributed.FileStore(str(folder / "store"), rank.count),
            rank=rank.number,
            world_size=rank.count,
            timeout=_PATIENCE,
            device_id=device,
        )


def leave_group() -> None:
    """Leave the group, as all ranks do."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def abort_group() -> None:
    """Give the group up: what waits for a rank that has ended fails, and the group is left."""
    if not distributed.is_initialized():
        return
    with suppress(Exception):  # of a group that is broken already
        if distributed.get_backend() == "nccl":
            distributed.distributed_c10d._abort_process_group()
        else:
            distributed.destroy_process_group()


@contextmanager
def _loopback() -> Iterator[None]:
    """Let gloo use the loopback: the name of this machine may mean an address that cannot be reached."""
    if not sys.platform.startswith("linux") or _INTERFACE in os.environ:
        yield
        return
    os.environ[_INTERFACE] = "lo"
    try:
        yield
    finally:
        del os.environ[_INTERFACE]
