"""Layers over several devices in turn: which lie where, what is said of it, and the same logits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.config.point import Model, Quantization
from harness.models import load as loading
from harness.models import memory, placement
from harness.models.load import free, load
from harness.models.placement import device_map, find_placement, memory_cures, offload_notes

GIB = 1024**3
FP32 = Quantization(name="fp32", dtype="float32")
ON_DISK = {
    "model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu",
    "model.rotary_emb": "cpu", "lm_head": "disk",
}  # fmt: skip
"""A device map with which accelerate's hooks run on a machine without GPUs."""


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    free_bytes = {"cuda:0": 10 * GIB, "cuda:1": 20 * GIB, "cpu": 100 * GIB}
    monkeypatch.setattr(placement, "devices", lambda: tuple(free_bytes))
    monkeypatch.setattr(memory, "available_bytes", free_bytes.__getitem__)


def chosen(devices: Any = "auto", folder: Path | str = "x", device: str = "auto") -> Model:
    return Model(name="m", id=str(folder), devices=devices, device=device)


@pytest.mark.usefixtures("two_gpus")
def test_weights_leave_room_for_the_cache_on_each_gpu() -> None:
    how, room = device_map(chosen(), "cuda:0")
    assert how == "auto"
    assert room == {0: int(8.5 * GIB), 1: 17 * GIB, "cpu": 90 * GIB}
    for one, device in ((chosen("single"), "cuda:0"), (chosen(), "cpu"), (chosen(), "mps")):
        assert device_map(one, device) == ({"": device}, None)


def test_a_plan_says_what_the_gpus_cannot_hold() -> None:
    free = [10 * GIB, 20 * GIB]
    assert offload_notes(chosen(), "cuda", 25 * GIB, free) == []
    (line,) = offload_notes(chosen(), "cuda", 51 * GIB, free)
    assert "50% of the weights are on the CPU" in line
    assert "slow" in line
    assert "quantization=bnb_nf4" in line
    assert offload_notes(chosen(), "cuda", 51 * GIB, []) == []
    assert offload_notes(chosen("single"), "cuda", 51 * GIB, free) == []
    assert offload_notes(chosen(), "cpu", 51 * GIB, free) == []


class OfLayers(torch.nn.Module):
    """Eight layers of 64 bytes and an embedding of 128, loaded with a device map."""

    def __init__(self, where: dict[str, Any]) -> None:
        super().__init__()
        self.embed = torch.nn.Linear(4, 8, bias=False)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(4, 4, bias=False) for _ in range(8)])
        self.hf_device_map = where
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(num_hidden_layers=8))


def test_shares_by_hand() -> None:
    where = {"embed": 0, **{f"layers.{n}": 0 if n < 2 else 1 if n < 5 else "cpu" for n in range(8)}}
    found = find_placement(OfLayers(where), chosen(), "cuda:0")
    assert found.devices == ("cuda:0", "cuda:1")
    assert found.shares == {"cuda:0": 256 / 640, "cuda:1": 192 / 640, "cpu": 192 / 640}
    # Layers on the CPU are computed on the first GPU: it has the cache of 2 + 3 of the 8.
    assert found.cache_share == 5 / 8
    (line,) = found.warnings
    assert "model.devices=auto: 30% of the weights are on the CPU; every step copies them" in line
    assert found.facts() == {"devices": "auto", "device_count": 2, "weights_by_device": found.shares}
    whole = find_placement(OfLayers({"": 0}), chosen(), "cuda:0")
    assert (whole.devices, whole.cache_share, whole.warnings) == (("cuda:0",), 1.0, ())
    assert find_placement(OfLayers({"": "cpu"}), chosen("single"), "cpu").facts() == {}


def test_offloaded_layers_give_the_same_logits(
    small_model: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = small_model("llama")
    single = load(chosen("single", folder, "cpu"), FP32)
    everything = load(chosen("auto", folder, "cpu"), FP32)
    monkeypatch.setattr(loading, "device_map", lambda model, device: (ON_DISK, None))
    offloaded = load(chosen("auto", folder, "cpu"), FP32)
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        expected = single.model(ids).logits
        assert torch.equal(everything.model(ids).logits, expected)
        assert torch.equal(offloaded.model(ids).logits, expected)
    assert single.placement.warnings == everything.placement.warnings == ()
    (line,) = offloaded.placement.warnings
    assert "of the weights are on the disk" in line
    assert offloaded.placement.shares["disk"] == pytest.approx(0.5, abs=0.05)
    assert not caplog.records  # the harness says it itself
    assert offloaded.facts["memory_footprint_mb"] == single.facts["memory_footprint_mb"]
    free(offloaded)


def test_what_helps_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "devices", lambda: ("cuda:0", "cuda:1", "cpu"))
    everything = memory_cures("single", False, "cuda:0")
    for cure in ("quantization=bnb_nf4", "model.devices=auto", "model.devices=tensor_parallel", "smaller"):
        assert cure in everything
    quantized = memory_cures("single", True, "cuda:0")
    assert "bnb_nf4" not in quantized
    assert "tensor_parallel" not in quantized  # which cannot split quantized weights
    assert memory_cures("auto", False, "cuda:0") == "use quantization=bnb_nf4 or a smaller model"
    assert memory_cures("single", False, "cpu") == "use quantization=bnb_nf4 or a smaller model"
    assert memory_cures("single", True, "cpu") == "use a smaller model"
