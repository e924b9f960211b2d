"""Tensor parallelism: how many ranks split a model, and whether they can; read from its config alone.

A rank is a process with one device, which has a share of each layer: some of the attention heads, some of the
columns of the products. transformers' plan of an architecture says which (`base_model_tp_plan`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.point import Model, Quantization
from harness.errors import ConfigError
from harness.models.memory import attention_heads, key_value_heads
from harness.models.model_files import ModelFiles
from harness.models.packages import package_version

KEY = "model.devices=tensor_parallel"
_INSTEAD = "use model.devices=auto"
_SINCE = (5, 24)
"""The version of transformers whose way to split models this is."""
_KEY_PROJECTIONS = ("k_proj", "qkv_proj", "query_key_value")


@dataclass(frozen=True)
class Rank:
    """One of the processes that split a model: its number, from 0, and how many they are."""

    number: int
    count: int

    def device(self, device: str) -> str:
        """Return the device of the rank, where `device` is that of a model in one process."""
        return f"cuda:{self.number}" if device.startswith("cuda") else device


def rank_count(model: Model, device: str, gpus: int | None) -> int:
    """Return how many ranks split a model.

    Args:
        model: with `devices=tensor_parallel`.
        device: the kind that `model.device` means.
        gpus: that a process sees; None where that is unknown.

    Raises:
        ConfigError: there are fewer GPUs; or there is none, and the number is not given.
    """
    size = model.tensor_parallel_size
    if device == "mps":
        raise ConfigError.of(KEY, "needs several GPUs, and mps is one; use model.devices=auto")
    if device != "cpu" and gpus is None:
        if size is None:
            raise ConfigError.of(KEY, "needs to know the GPUs of a worker; set model.tensor_parallel_size=2")
        return size
    gpus = gpus or 0
    if device == "cpu":
        if gpus:
            raise ConfigError.of(
                f"model.device={model.device}",
                f"{KEY} takes the GPUs that are visible; set CUDA_VISIBLE_DEVICES= to nothing for the CPU",
            )
        if size is None:
            problem = "takes all visible GPUs, and this machine has none"
            cure = "use model.devices=auto, or try it on the CPU with model.tensor_parallel_size=2"
            raise ConfigError.of(KEY, f"{problem}; {cure}")
        return size
    if size is None and gpus < 2:
        raise ConfigError.of(KEY, "needs two GPUs at least, and one is visible; use model.devices=single")
    if size is not None and size > gpus:
        fitting = f"model.tensor_parallel_size={gpus}" if gpus > 1 else "model.devices=single"
        problem = f"needs {size} GPUs, and {gpus} {'is' if gpus == 1 else 'are'} visible"
        raise ConfigError.of(f"model.tensor_parallel_size={size}", f"{problem}; use {fitting}")
    return size or gpus


def check_splittable(model: Model, quantization: Quantization, files: ModelFiles, ranks: int) -> None:
    """Check that so many ranks can split a model.

    Raises:
        ConfigError: it is quantized, transformers has no plan for it, or its heads cannot be shared out.
    """
    version = package_version("transformers") or "0.0"
    if tuple(map(int, version.split(".")[:2])) < _SINCE:
        needed = ".".join(map(str, _SINCE))
        raise ConfigError.of(KEY, f"needs transformers {needed}, this is {version}; {_INSTEAD}")
    if files.gguf is not None:
        raise ConfigError.of(KEY, f"a GGUF file is read whole by each process; {_INSTEAD}, or other weights")
    if files.stored is not None:
        problem = f"{model.id} is quantized ({files.stored}), and packed weights cannot be split"
        raise ConfigError.of(KEY, f"{problem}; {_INSTEAD}, or a checkpoint that is not quantized")
    own_code = files.has_remote_code and model.trust_remote_code
    plan = {} if own_code else _plan(files)
    if not plan:
        problem = f"transformers has no plan to split {files.model_type or 'this architecture'}"
        raise ConfigError.of(KEY, f"{problem}; {_INSTEAD}")
    heads, of_keys = attention_heads(files.text_config), key_value_heads(files.text_config)
    shared = math.gcd(heads, of_keys) if splits_heads(plan) else ranks
    if shared % ranks:
        fitting = max(size for size in range(1, ranks) if shared % size == 0)
        cure = f"use model.tensor_parallel_size={fitting}" if fitting > 1 else _INSTEAD
        has = f"{heads} attention heads and {of_keys} of keys and values"
        raise ConfigError.of(
            f"model.tensor_parallel_size={ranks}",
            f"{model.id} has {has}, which {ranks} ranks cannot share; {cure}",
        )


def splits_heads(plan: Mapping[str, str]) -> bool:
    """Return whether a plan gives each rank some of the heads, and so some of the KV cache."""
    return any(
        name.rsplit(".", 1)[-1] in _KEY_PROJECTIONS and style == "colwise" for name, style in plan.items()
    )


def cache_share(files: ModelFiles, ranks: int) -> float:
    """Return the part of a KV cache that one of so many ranks has."""
    return 1 / ranks if splits_heads(_plan(files)) else 1.0


def loading_arguments(rank: Rank) -> dict[str, Any]:
    """Return what `from_pretrained` needs to read the share of a rank, whose process group is there."""
    from transformers.distributed import DistributedConfig

    return {"distributed_config": DistributedConfig(tp_size=rank.count, tp_plan="auto")}


def _plan(files: ModelFiles) -> Mapping[str, str]:
    """Return transformers' plan of the language model; empty where it has none, or does not know it."""
    from transformers import CONFIG_MAPPING

    for config in (files.config, files.text_config):
        kind = str(config.get("model_type", ""))
        if kind in CONFIG_MAPPING and (plan := CONFIG_MAPPING[kind].base_model_tp_plan):
            return dict(plan)
    return {}
