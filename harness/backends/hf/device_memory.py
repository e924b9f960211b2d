"""The free memory and the threads of a model that may lie on several devices, or be shared by ranks."""

from __future__ import annotations

from collections.abc import Sequence

from harness.backends.backend import Request
from harness.backends.hf.batch_size import request_cache_bytes
from harness.errors import HarnessError, RankLostError
from harness.models.device import cpu_threads
from harness.models.load import LoadedModel
from harness.models.memory import available_bytes, format_bytes
from harness.models.placement import Placement, memory_cures


def free_bytes(placement: Placement) -> int:
    """Return the free memory of the device that has the least.

    Ranks agree on it, in step, since batches must be the same on all.
    """
    free = min(map(available_bytes, placement.devices))
    if placement.ranks == 1:
        return free
    import torch

    device = placement.devices[0]
    if device == "cpu":  # one memory for all
        free //= placement.ranks
    agreed = torch.tensor(free, dtype=torch.long, device=device)
    torch.distributed.all_reduce(agreed, torch.distributed.ReduceOp.MIN)
    return int(agreed)


def own_threads(placement: Placement) -> int:
    """Return how many CPU threads one process takes."""
    share = placement.ranks if placement.devices[0] == "cpu" else 1
    return max(1, cpu_threads() // share)


def rank_out_of_memory(loaded: LoadedModel, requests: int) -> RankLostError:
    """Return the error of a rank that ran out of memory with so many requests in a batch."""
    cure = f"set engine.batch_rows={requests // 2}" if requests > 1 else "ask for fewer or shorter tokens"
    more = "take more GPUs, or model.devices=auto"
    return RankLostError(f"out of memory on {loaded.device} with {requests} in a batch; {cure}, or {more}")


def request_out_of_memory(loaded: LoadedModel, requests: Sequence[Request], value_bytes: int) -> HarnessError:
    """Return the error of a strategy of which not even one of these requests fits."""
    device, largest = loaded.device, max(requests, key=lambda request: len(request.prompt.ids))
    needed = request_cache_bytes(largest, loaded.files, value_bytes)
    cures = memory_cures(loaded.placement.kind, bool(loaded.facts["quantized_modules"]), device)
    return HarnessError(
        f"out of memory on {device} with a single request: its KV cache takes up to "
        f"{format_bytes(needed)} (prompts of up to {len(largest.prompt.ids)} tokens, "
        f"generation.max_new_tokens={largest.strategy.max_new_tokens}), and "
        f"{format_bytes(available_bytes(device))} are free beside the weights; ask for fewer tokens, "
        f"shorter prompts or fewer beams, or {cures}"
    )
