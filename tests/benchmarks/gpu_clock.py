"""Times of work on a device, by CUDA events on a GPU; its bandwidth; and what it does during steps."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from harness.backends.hf.latency_pass import synchronize


def seconds_of(device: str, work: Callable[[], Any], repeats: int, warmup: int = 3) -> list[float]:
    """Return the seconds of each of some repetitions, after a few that are not counted.

    On a GPU from one event of its stream to the next, gaps in which it waits for the host included.
    """
    for _ in range(warmup):
        work()
    synchronize(device)
    if not device.startswith("cuda"):
        found = []
        for _ in range(repeats):
            started = time.perf_counter()
            work()
            found.append(time.perf_counter() - started)
        return found
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    synchronize(device)
    return [one.elapsed_time(after) / 1e3 for one, after in itertools.pairwise(events)]


def copy_bandwidth(device: str, size: int) -> float:
    """Return bytes a second, read and written, of the fastest usual copy: one large tensor into another."""
    source = torch.randint(0, 100, (size // 4,), dtype=torch.int32, device=device)
    target = torch.empty_like(source)
    times = seconds_of(device, lambda: target.copy_(source), repeats=20)
    return 2 * source.numel() * source.element_size() / statistics.median(times)


@dataclass(frozen=True)
class Activity:
    """What a device did during some steps: seconds in which it was at work, and kernels that it ran."""

    busy_seconds: float
    kernels: int


class Profile:
    """The kernels between `begin` and `end`, as torch's profiler has them; on a CPU its operators."""

    def __init__(self, device: str) -> None:
        from torch.profiler import ProfilerActivity, profile

        self._device = device
        self._cuda = device.startswith("cuda")
        self._profile = profile(activities=[ProfilerActivity.CUDA if self._cuda else ProfilerActivity.CPU])

    def begin(self) -> None:
        """Start when the device is idle."""
        synchronize(self._device)
        self._profile.start()

    def end(self) -> Activity | None:
        """Stop once the device is done; None where the profiler saw no kernel (CUPTI is missing or busy)."""
        synchronize(self._device)
        self._profile.stop()
        kind = torch.autograd.DeviceType.CUDA if self._cuda else torch.autograd.DeviceType.CPU
        # What waits ("Stream Sync") is no work. An operator of a CPU lies within the one that called it: the
        # union counts it once.
        spans = [
            (event.time_range.start, event.time_range.end)
            for event in self._profile.events() or []
            if event.device_type == kind
            and event.time_range.end > event.time_range.start
            and not event.name.endswith("Sync")
        ]
        return Activity(union(spans) / 1e6, len(spans)) if spans else None


@dataclass(frozen=True)
class Queueing:
    """How long the host takes to queue some work, and how long until the device has done it; seconds each."""

    queued: float
    done: float


def queueing(device: str, work: Callable[[], Any], repeats: int = 20) -> Queueing:
    """Return how long one of some repetitions takes the host, and the device, where nothing waits between."""
    work()
    synchronize(device)
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    queued = time.perf_counter() - started
    synchronize(device)
    return Queueing(queued / repeats, (time.perf_counter() - started) / repeats)


def union(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of what intervals cover together."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
