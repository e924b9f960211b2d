"""Which backend a point runs on."""

from __future__ import annotations

from collections.abc import Callable

from harness.backends.backend import Target
from harness.backends.hf.target import hf_target
from harness.backends.openai.server_target import server_target
from harness.backends.vllm.vllm_target import vllm_target
from harness.config.point import Point
from harness.once import Once

TARGETS: dict[str, Callable[[Point, Once], Target]] = {
    "hf": hf_target,
    "vllm": vllm_target,
    "openai": server_target,
}
"""By `backend.kind`."""


def target_of(point: Point, once: Once) -> Target:
    """Return what a point runs on; nothing is loaded. `once` remembers what the points of one plan share.

    Raises:
        ConfigError: it cannot be run here as requested.
    """
    return TARGETS[point.backend.kind](point, once)
