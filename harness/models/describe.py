"""The environment of a run, for environment.json: versions, machine, device and the loaded model."""

from __future__ import annotations

import os
import platform
from functools import cache
from typing import TYPE_CHECKING, Any

import harness
from harness.models.device import cpu_name, shares_its_node
from harness.models.packages import package_version

if TYPE_CHECKING:
    from harness.models.load import LoadedModel

PACKAGES = (
    "torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "accelerate", "bitsandbytes",
    "torchao", "hqq", "optimum", "gptqmodel", "compressed-tensors", "gguf",
    "onnxruntime", "onnx", "onnxscript", "openvino", "nncf",
    "numpy", "mlflow", "hydra-core", "omegaconf", "pydantic", "pyarrow", "jinja2",
)  # fmt: skip


@cache
def versions() -> dict[str, str | None]:
    """Return the versions of Python, the harness and `PACKAGES`; None for one that is not installed."""
    return {
        "python": platform.python_version(),
        "harness": harness.__version__,
        **{name: package_version(name) for name in PACKAGES},
    }


def environment(loaded: LoadedModel | None = None) -> dict[str, Any]:
    """Return what environment.json holds: `versions`, `machine`, and the `model` facts of a loaded model."""
    import torch

    machine: dict[str, Any] = {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "shares_node": shares_its_node(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.version.cuda else None,
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
    found: dict[str, Any] = {"versions": versions(), "machine": machine}
    if loaded is not None:
        found["model"] = dict(loaded.facts)
        if loaded.device.startswith("cuda"):
            major, minor = torch.cuda.get_device_capability(loaded.device)
            machine["compute_capability"] = f"{major}.{minor}"
    return found
