"""Devices: what `auto` means, and the mistake when one is not available."""

from __future__ import annotations

import pytest

from harness.errors import ConfigError
from harness.models import device
from harness.models.device import cpu_name, resolve_device


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for available in (("cuda:0", "cuda:1", "mps", "cpu"), ("mps", "cpu"), ("cpu",)):
        monkeypatch.setattr(device, "devices", lambda available=available: available)
        assert resolve_device("auto") == available[0]
        assert resolve_device("cpu") == "cpu"
    monkeypatch.setattr(device, "devices", lambda: ("cuda:0", "cuda:1", "cpu"))
    assert (resolve_device("cuda"), resolve_device("cuda:1")) == ("cuda:0", "cuda:1")


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "mps"])
def test_an_unavailable_device_is_refused_with_those_available(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(device, "devices", lambda: ("cpu",))
    with pytest.raises(ConfigError) as caught:
        resolve_device(name)
    assert str(caught.value) == (
        f"model.device: {name!r} is not available on this machine; use one of auto, cpu"
    )


def test_the_processor_has_a_name() -> None:
    assert cpu_name().strip()
