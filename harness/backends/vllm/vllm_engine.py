"""vLLM's engine in this process: opened with the harness's logits processor, and closed without a trace."""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.config.point import Backend, Model, Quantization
from harness.errors import HarnessError, first_line
from harness.models.locate import ModelFiles
from harness.models.memory import BYTES, available_bytes, kv_cache_bytes
from harness.models.weight_progress import quiet_loading

_ENVIRONMENT = {
    # The engine must be here: its processors share what they see with this process.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # On a CPU vLLM would bind this process to cores of its choice.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
_RUNNER = "VLLM_USE_V2_MODEL_RUNNER"
_RUNNER_ASKED = os.environ.get(_RUNNER)
_GPU_SHARE = 0.85
"""Part of a GPU's memory that vLLM takes by default: less than its own 0.92, since the distributions of a
step are computed and recorded beside it."""
_MOST_CPU_CACHE = 0.5
"""Part of the free memory of a CPU that the cache takes at most."""


@dataclass(frozen=True)
class Opened:
    """An engine that is ready.

    Attributes:
        engine: vLLM's LLMEngine.
        max_model_len: tokens of prompt and output at most.
        max_num_seqs: sequences in a batch at most.
        facts: of the engine, for environment.json.
    """

    engine: Any
    max_model_len: int
    max_num_seqs: int
    facts: dict[str, Any]


def open_engine(
    model: Model, quantization: Quantization, backend: Backend, files: ModelFiles, dtype: str, rows: int
) -> Opened:
    """Load a model, whose files are all there, into an engine of vLLM.

    Args:
        model, quantization, backend: of the point.
        files: where the model is; its `context_length` is what room is kept for.
        dtype: of what is not quantized.
        rows: sequences in a batch at most.

    Raises:
        HarnessError: vLLM cannot be imported, does not know the model, or lacks memory; in one line.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ[name] = value if name.startswith("VLLM_ENABLE") else os.environ.get(name, value)
    # The first runner's processor is tested in vLLM, the second's is not (`runner_v2.py`).
    runner = _RUNNER_ASKED if backend.native or _RUNNER_ASKED is not None else "0"
    os.environ.pop(_RUNNER, None)
    if runner is not None:
        os.environ[_RUNNER] = runner
    # Before vLLM sets its log up, what it says while it is imported has this level.
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])
    with quiet_loading(), _own_random_numbers(), _own_threads():
        try:
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine
        except Exception as error:
            raise HarnessError(f"backend=vllm: vLLM cannot be imported: {_import_problem(error)}") from error
        arguments: dict[str, Any] = {
            "model": str(files.folder),
            "skip_tokenizer_init": True,
            "trust_remote_code": model.trust_remote_code,
            "dtype": dtype,
            "quantization": quantization.vllm,
            "load_format": "auto" if files.pickled else "safetensors",
            "use_tqdm_on_load": False,
            "max_model_len": files.context_length,
            "max_num_seqs": rows,
            "tensor_parallel_size": backend.tensor_parallel_size,
            "enforce_eager": backend.enforce_eager,
            "enable_prefix_caching": True,
            "generation_config": "vllm",
            "max_logprobs": -1,
            "disable_log_stats": True,
            # What is chosen at a step must be known before the next one begins.
            "async_scheduling": False,
        }
        if backend.gpu_memory_utilization is not None:
            arguments["gpu_memory_utilization"] = backend.gpu_memory_utilization
        elif not torch.cuda.is_available():
            arguments["kv_cache_memory_bytes"] = _cpu_cache_bytes(files, dtype, rows)
        elif not backend.native:
            arguments["gpu_memory_utilization"] = _GPU_SHARE
        try:
            config = EngineArgs(**arguments).create_engine_config()
            if not backend.native:
                config.model_config.logits_processors = [_processor(config.use_v2_model_runner)]
            engine = LLMEngine.from_vllm_config(config)
        except HarnessError:
            raise
        except Exception as error:
            raise HarnessError(
                f"backend=vllm: {files.id} cannot be loaded: {_load_problem(error)}"
            ) from error
    facts = {
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "block_size": config.cache_config.block_size,
        "gpu_blocks": config.cache_config.num_gpu_blocks,
        "enforce_eager": config.model_config.enforce_eager,
        "model_runner": 2 if config.use_v2_model_runner else 1,
        "quantization": config.model_config.quantization,
    }
    return Opened(engine, config.model_config.max_model_len, config.scheduler_config.max_num_seqs, facts)


def close_engine(opened: Opened) -> None:
    """Free the engine's memory, and what it set up for talking to other processes."""
    from vllm.distributed import cleanup_dist_env_and_memory

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened.engine.engine_core.shutdown()
        cleanup_dist_env_and_memory()


def _processor(second_runner: bool) -> type:
    if second_runner:
        from harness.backends.vllm.runner_v2 import ProcessorV2

        return ProcessorV2
    from harness.backends.vllm.runner_v1 import ProcessorV1

    return ProcessorV1


def _cpu_cache_bytes(files: ModelFiles, dtype: str, rows: int) -> int:
    """Return the bytes of cache on a CPU: for all rows at full length, as far as the memory allows."""
    wanted = rows * kv_cache_bytes(files.config, files.context_length or 4096, BYTES[dtype])
    return max(2**26, min(wanted, int(_MOST_CPU_CACHE * available_bytes("cpu"))))


def _import_problem(error: Exception) -> str:
    line = first_line(error)
    if "torchvision" in str(error):
        return f"{line}; run: pip uninstall -y torchvision torchaudio torchcodec"
    return line


def _load_problem(error: Exception) -> str:
    text = str(error)
    if "KV cache" in text or "max_model_len" in text or "max seq len" in text:
        return f"{first_line(error)} (set backend.max_model_len, or backend.gpu_memory_utilization)"
    if "memory" in text.lower():
        return f"{first_line(error)} (set backend.gpu_memory_utilization, or free memory)"
    return first_line(error)


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Keep this process's random numbers as they are: vLLM seeds them."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])


@contextmanager
def _own_threads() -> Iterator[None]:
    """Keep `torch.set_num_threads`, which vLLM replaces on a CPU."""
    original = torch.set_num_threads
    yield
    torch.set_num_threads = original
