"""Devices: what `auto` means, and what is told when one is not there."""

from __future__ import annotations

import pytest

from harness.errors import ConfigError
from harness.models import device
from harness.models.device import cpu_name, resolve_device


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (("cuda:0", "cuda:1", "mps", "cpu"), ("mps", "cpu"), ("cpu",)):
        monkeypatch.setattr(device, "devices", lambda there=there: there)
        assert resolve_device("auto") == there[0]
        assert resolve_device("cpu") == "cpu"
    monkeypatch.setattr(device, "devices", lambda: ("cuda:0", "cuda:1", "cpu"))
    assert (resolve_device("cuda"), resolve_device("cuda:1")) == ("cuda:0", "cuda:1")


@pytest.mark.parametrize("asked", ["cuda", "cuda:7", "mps", "gpu", "cuda:x", ""])
def test_what_is_not_there_is_told_with_what_is(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setattr(device, "devices", lambda: ("cpu",))
    with pytest.raises(ConfigError) as caught:
        resolve_device(asked)
    said = "is not on this machine" if asked in ("cuda", "cuda:7", "mps") else "is no device"
    assert str(caught.value) == f"model.device: {asked!r} {said}; there are: auto, cpu"


def test_the_processor_has_a_name() -> None:
    assert cpu_name().strip()
