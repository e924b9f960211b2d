"""A graph in memory, run on the CPU: named tensors in, named tensors out.

Both runtimes compute in the dtype of the graph's weights, and use the threads that they are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

Shape = tuple[int | None, ...]
"""The axes of an input; None where any size is taken."""

_TORCH_DTYPES = {
    "tensor(int64)": torch.int64, "tensor(int32)": torch.int32, "tensor(bool)": torch.bool,
    "tensor(float)": torch.float32, "tensor(float16)": torch.float16,
}  # fmt: skip
"""By ONNX Runtime's names of types."""


class Graph(Protocol):
    """An exported model in a runtime.

    Attributes:
        inputs: shape by name.
        outputs: names.
    """

    inputs: dict[str, Shape]
    outputs: tuple[str, ...]

    def run(self, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs for all inputs."""


class OnnxGraph:
    """A graph in a session of ONNX Runtime; tensors are bound where they lie, and not copied."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors; its warnings are about nodes that it fuses
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        specs = self._session.get_inputs()
        self._dtypes = {spec.name: _TORCH_DTYPES[spec.type] for spec in specs}
        self.inputs: dict[str, Shape] = {
            spec.name: tuple(_axis(size) for size in spec.shape) for spec in specs
        }
        self.outputs: tuple[str, ...] = tuple(spec.name for spec in self._session.get_outputs())

    def run(self, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs for all inputs."""
        binding = self._session.io_binding()
        bound = []
        for name, dtype in self._dtypes.items():
            tensor = feed[name].to(dtype).contiguous()
            # An empty tensor has no address, which is refused.
            memory = tensor if tensor.numel() else torch.empty(1, dtype=dtype)
            bound.append(memory)
            number = torch.empty(0, dtype=dtype).numpy().dtype.type
            binding.bind_input(name, "cpu", 0, number, list(tensor.shape), memory.data_ptr())
        for name in self.outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        values = binding.get_outputs()
        # OrtValue.numpy() would copy; as DLPack the memory is shared, and lives as long as the tensor.
        tensors = [torch.from_dlpack(value._ortvalue.to_dlpack()) for value in values]
        return dict(zip(self.outputs, tensors, strict=True))


class OpenVinoGraph:
    """A graph that OpenVINO compiled, in float32 also where the CPU would compute in bfloat16."""

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        self._compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        self._request = self._compiled.create_infer_request()
        ports = self._compiled.inputs
        self._dtypes = {port.any_name: port.get_element_type().to_dtype() for port in ports}
        shapes = {port.any_name: port.get_partial_shape() for port in ports}
        self.inputs: dict[str, Shape] = {
            name: tuple(axis.get_length() if axis.is_static else None for axis in shape)
            for name, shape in shapes.items()
        }
        self.outputs: tuple[str, ...] = tuple(port.any_name for port in self._compiled.outputs)

    def run(self, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs for all inputs."""
        arrays: dict[Any, Any] = {
            name: np.ascontiguousarray(feed[name].numpy(), dtype=dtype)
            for name, dtype in self._dtypes.items()
        }
        found = self._request.infer(arrays, share_inputs=True, share_outputs=False)
        tensors = [torch.from_numpy(found[port]) for port in self._compiled.outputs]
        return dict(zip(self.outputs, tensors, strict=True))


def open_graph(kind: str, path: Path, threads: int) -> Graph:
    """Read a graph from its file; `kind` is `backend.kind`."""
    return OnnxGraph(path, threads) if kind == "onnx" else OpenVinoGraph(path, threads)


def _axis(size: int | str | None) -> int | None:
    return size if isinstance(size, int) else None
