"""Which backend a point runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.backends.backend import Target
from harness.backends.exported.exported_target import exported_target
from harness.backends.hf.target import hf_target
from harness.backends.openai.server_target import server_target
from harness.backends.vllm.vllm_target import vllm_target
from harness.config.plugins import BACKENDS, plugin, unknown_plugin
from harness.config.point import Point
from harness.errors import ConfigError, HarnessError
from harness.once import Once

TARGETS: dict[str, Callable[[Point, Once], Target]] = {
    "hf": hf_target,
    "vllm": vllm_target,
    "onnx": exported_target,
    "openvino": exported_target,
    "openai": server_target,
}
"""By `backend.kind`; others are plug-ins."""


def target_of(point: Point, once: Once) -> Target:
    """Return what a point runs on; nothing is loaded. `once` remembers what the points of one plan share.

    A plug-in's target depends on the plug-in's version too, which becomes part of the address.

    Raises:
        ConfigError: it cannot be run here as requested.
    """
    kind = point.backend.kind
    if kind in TARGETS:
        return TARGETS[kind](point, once)
    key = f"backend.kind={kind}"
    found = plugin(BACKENDS, kind, key)
    if found is None:
        raise ConfigError.of(key, unknown_plugin(BACKENDS, kind))
    try:
        make: Callable[[Point, Once], Target] = found.load()
    except HarnessError as error:
        raise ConfigError.of(key, str(error)) from error
    target = make(point, once)
    return replace(target, facts={**target.facts, "plugin": found.code})
