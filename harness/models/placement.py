"""Where a model lies: on one device, its layers over several in turn, or each layer split over ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.config.point import Model
from harness.models.device import devices
from harness.models.tensor_parallel import Rank, splits_heads

Kind = Literal["single", "auto", "tensor_parallel"]

GPU_SHARE = 0.85
"""Part of a GPU's free memory that weights may take with `model.devices=auto`; the rest is for the cache."""
_CPU_SHARE = 0.9
_OFFLOADED = ("cpu", "disk")


@dataclass(frozen=True)
class Placement:
    """Where the weights of a loaded model lie.

    Attributes:
        kind: `model.devices`.
        devices: that compute, of this process; the first takes the inputs.
        shares: part of the weights by device, the CPU and the disk included; empty where there is one device.
        cache_share: the most of a sequence's KV cache that one device holds, 0 to 1.
        ranks: processes that share each layer.
    """

    kind: Kind
    devices: tuple[str, ...]
    shares: Mapping[str, float] = field(default_factory=dict)
    cache_share: float = 1.0
    ranks: int = 1

    @property
    def count(self) -> int:
        """How many devices compute."""
        return self.ranks * len(self.devices)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What users should know of weights that no GPU holds, in one line."""
        beside = ("disk",) if self.devices[0] == "cpu" else _OFFLOADED
        found = {name: self.shares[name] for name in beside if name in self.shares}
        return (offload_warning(found),) if found else ()

    def facts(self) -> dict[str, Any]:
        """Return what is stored of it; nothing of a model on one device, which is stored as such."""
        if self.kind == "single":
            return {}
        found: dict[str, Any] = {"devices": self.kind, "device_count": self.count}
        if self.shares:
            found["weights_by_device"] = dict(self.shares)
        return found


def reset_peak(names: Iterable[str]) -> None:
    """Reset the peak memory of devices."""
    from harness.models.memory import reset_peak_memory

    for name in names:
        reset_peak_memory(name)


def peak_mb(placement: Placement) -> float | None:
    """Return the peak memory of all devices together since `reset_peak` in MiB; ranks use alike."""
    from harness.models.memory import peak_memory_mb

    peaks = [peak for name in placement.devices if (peak := peak_memory_mb(name)) is not None]
    return sum(peaks) * placement.ranks if peaks else None


def gpus() -> list[str]:
    """Return the visible GPUs."""
    return [name for name in devices() if name.startswith("cuda")]


def device_count(model: Model, device: str, count: int | None) -> int:
    """Return how many devices of a kind a model lies on that no ranks share, of so many GPUs."""
    return count or 1 if model.devices == "auto" and device.startswith("cuda") else 1


def offload_notes(model: Model, device: str, weight_bytes: int | None, free: Sequence[int]) -> list[str]:
    """Return the line that the GPUs are too small for a model, by estimate, before it is loaded.

    Args:
        model: that is to be loaded.
        device: the kind that `model.device` means.
        weight_bytes: the model's; None where they are unknown.
        free: bytes that are free on each GPU; empty where that is unknown.
    """
    if model.devices != "auto" or not device.startswith("cuda") or not weight_bytes or not free:
        return []
    room = sum(int(size * GPU_SHARE) for size in free)
    if weight_bytes <= room:
        return []
    return [offload_warning({"cpu": 1 - room / weight_bytes})]


def offload_warning(shares: Mapping[str, float]) -> str:
    """Return the line about the shares of the weights that lie on the CPU or the disk."""
    names = {"cpu": "on the CPU", "disk": "on the disk"}
    (first, share), *others = shares.items()
    where = ", ".join(
        [f"{share:.0%} of the weights are {names[first]}", *(f"{s:.0%} {names[name]}" for name, s in others)]
    )
    return (
        f"model.devices=auto: {where}; every step copies them to where it computes, which is slow; "
        "quantization=bnb_nf4 takes about a quarter of bf16's memory and may fit on one GPU"
    )


def device_map(model: Model, device: str) -> tuple[Any, dict[Any, Any] | None]:
    """Return `device_map` and `max_memory` for `from_pretrained`.

    With `auto` accelerate fills the visible GPUs in turn, each as far as leaves room for the KV cache, then
    the memory of the machine, then the disk. Without a GPU everything lies on the one device that there is.
    """
    if model.devices != "auto" or not device.startswith("cuda"):
        return {"": device}, None
    from harness.models.memory import available_bytes

    room: dict[Any, Any] = {
        index: int(available_bytes(name) * GPU_SHARE) for index, name in enumerate(gpus())
    }
    return "auto", room | {"cpu": int(available_bytes("cpu") * _CPU_SHARE)}


def find_placement(loaded: Any, model: Model, device: str, rank: Rank | None = None) -> Placement:
    """Return where a model lies that was loaded with `device_map`, or by a rank."""
    if model.devices == "tensor_parallel" and rank is not None:
        share = 1 / rank.count if splits_heads(loaded.tp_plan) else 1.0
        return Placement("tensor_parallel", (device,), cache_share=share, ranks=rank.count)
    if model.devices != "auto":
        return Placement("single", (device,))
    placed = {name: _name(where) for name, where in getattr(loaded, "hf_device_map", {}).items()}
    if not placed:
        return Placement("auto", (device,))
    computing = dict.fromkeys(where for where in placed.values() if where not in _OFFLOADED)
    main = next(iter(computing), "cpu")  # where offloaded layers are computed
    sizes: dict[str, int] = {}
    for name, parameter in loaded.named_parameters():
        where = _device_of(name, placed)
        sizes[where] = sizes.get(where, 0) + parameter.numel() * parameter.element_size()
    total = sum(sizes.values()) or 1
    layers = [_device_of(name, placed) for name in _layer_names(loaded)]
    at = [main if where in _OFFLOADED else where for where in layers]
    return Placement(
        kind="auto",
        devices=tuple(computing) or (main,),
        shares={where: size / total for where, size in sizes.items()} if len(sizes) > 1 else {},
        cache_share=max(map(at.count, set(at))) / len(at) if at else 1.0,
    )


def memory_cures(kind: Kind, quantized: bool, device: str) -> str:
    """Return what helps a model that does not fit its device."""
    cures = [] if quantized else ["quantization=bnb_nf4"]
    if device.startswith("cuda") and kind == "single":
        cures.append("model.devices=auto (all visible GPUs, then the CPU)")
        if not quantized and len(gpus()) > 1:
            cures.append("model.devices=tensor_parallel (each layer split over the GPUs)")
    return f"use {', '.join([*cures, 'a smaller model'])}".replace(", a smaller", " or a smaller")


def devices_in_words(model: Model, device: str) -> str:
    """Return in a few words what a model was to lie on."""
    if model.devices == "single" or not device.startswith("cuda"):
        return device
    return "the GPUs" if model.devices == "tensor_parallel" else "the GPUs and of the machine"


def _name(where: Any) -> str:
    return f"cuda:{where}" if isinstance(where, int) else str(where)


def _device_of(name: str, placed: Mapping[str, str]) -> str:
    """Return the device of a module or parameter: that of the longest name in the map that it lies under."""
    while name not in placed and name:
        name = name.rpartition(".")[0]
    return placed.get(name, "cpu")


def _layer_names(loaded: Any) -> list[str]:
    total = loaded.config.get_text_config().num_hidden_layers
    for name, module in loaded.named_modules():
        if type(module).__name__ == "ModuleList" and len(module) == total:
            return [f"{name}.{index}" for index in range(total)]
    return []
