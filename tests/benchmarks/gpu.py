"""The product on a GPU: steps against the floor, sweeps against stock `generate`, recording, memory.

`python -m tests.benchmarks gpu` measures all in some six minutes and needs nothing but the card: the models
are made on it. `python -m tests.benchmarks.gpu --help` says how to choose; `--tiny --device cpu` runs it all
in small, anywhere.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from harness.backends.hf import verified_modes
from harness.backends.hf.backend import HfBackend
from harness.models.load import LoadedModel, free
from tests.benchmarks import gpu_sweep, gpu_vllm
from tests.benchmarks.gpu_clock import copy_bandwidth
from tests.benchmarks.gpu_models import SHAPES, Shape, make
from tests.benchmarks.gpu_report import Report, machine
from tests.benchmarks.gpu_steps import (
    TINY,
    Bench,
    Sizes,
    checked_capture,
    first_line,
    launches,
    recording,
    steps,
)

SECTIONS = ("step", "launches", "recording", "memory", "sweep", "compiled", "vllm")
_LAST = ("compiled", "vllm")
"""Sections that take a minute each: they come after all others of every model."""


def main(arguments: Sequence[str] = ()) -> Report | None:
    """Measure and print; return what was measured, None where there is no GPU."""
    options = parse(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("\ngpu: no CUDA device; `python -m tests.benchmarks.gpu --tiny --device cpu` runs it in small")
        return None
    # Their chatter on steps that are not captured or compiled would bury the table.
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    logging.getLogger("torch._inductor").setLevel(logging.ERROR)
    report = Report(options.json, machine(options.device))
    print(
        "\nGPU: " + ", ".join(f"{name} {value}" for name, value in report.machine.items() if value),
        flush=True,
    )
    sizes = TINY if options.tiny else Sizes()
    bandwidth = copy_bandwidth(options.device, _copied(options.device, sizes.copied_bytes))
    report.row(
        "copy", "", "of one tensor", f"{bandwidth / 1e9:,.0f} GB/s, read and written", bandwidth=bandwidth
    )
    ends = time.perf_counter() + 60 * options.minutes
    for late in (False, True):
        sections = [name for name in options.sections if (name in _LAST) == late]
        for name in options.models if sections else ():
            if time.perf_counter() > ends:
                report.note("time", name, f"skipped: the {options.minutes:g} minutes are over")
                continue
            shape = SHAPES[name].tiny() if options.tiny else SHAPES[name]
            started = time.perf_counter()
            try:
                loaded = make(shape, options.device)
            except Exception as error:
                report.note("model", shape.name, f"cannot be made: {first_line(error)}")
                continue
            bench = Bench(shape.name, loaded, False, bandwidth, sizes, options.seconds, ends, report)
            threads = torch.get_num_threads()
            try:
                _measure(bench, shape, sections, options.compile_config, started)
            except Exception as error:
                report.note("model", shape.name, f"failed: {first_line(error)}")
            torch.set_num_threads(threads)
            _release(bench.loaded)
    return report


def _measure(
    bench: Bench, shape: Shape, sections: Sequence[str], compile_config: Any, started: float
) -> None:
    """Run the sections of one model; one that fails does not end the others."""
    # Random weights round more than trained ones, which the self-test at load may take for errors. What is
    # measured is what a trained model gets; tests/gpu has the self-test.
    with patch.object(verified_modes, "tree_is_right", return_value=True):
        backend = HfBackend(bench.loaded)
    bench = checked_capture(bench)
    made = time.perf_counter() - started
    how = "captured" if bench.captures else "not captured"
    bench.report.row("model", bench.name, "made", f"in {made:.1f} s, steps {how}", seconds=made)
    work: dict[str, Callable[[], None]] = {
        "step": lambda: steps(bench),
        "launches": lambda: launches(bench),
        "recording": lambda: recording(bench),
        "memory": lambda: gpu_sweep.memory(bench, backend, shape.quantization),
        "sweep": lambda: gpu_sweep.sweep(bench, backend),
        "compiled": lambda: gpu_sweep.compiled(bench, backend, compile_config),
        "vllm": lambda: gpu_vllm.vllm(bench, backend),
    }
    took = {}
    for name in sections:
        if bench.over(name, "all"):
            continue
        began, problem = time.perf_counter(), ""
        try:
            work[name]()
        except Exception as error:
            problem = first_line(error)
        if problem:  # outside the handler, whose error keeps tensors alive
            bench.report.note(name, bench.name, f"failed: {problem}")
            _release()
        took[name] = time.perf_counter() - began
    spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items())
    bench.report.row("time", bench.name, "of its sections", spent, **took)


def _release(loaded: LoadedModel | None = None) -> None:
    """Free a model and what was compiled of it, or only what a failed section has left."""
    try:
        if loaded is not None:
            torch._dynamo.reset()
            free(loaded)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    except RuntimeError as error:  # after an illegal access every call of the device fails
        print(f"memory cannot be freed: {first_line(error)}", flush=True)


def _copied(device: str, wanted: int) -> int:
    """Return how much is copied: as wanted, but no more than a quarter of what is free."""
    if not device.startswith("cuda"):
        return wanted
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return min(wanted, free_bytes // 4 // 4096 * 4096)


def parse(arguments: Sequence[str]) -> Any:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gpu", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--device", default="cuda:0", help="cuda:N or cpu (default: cuda:0)")
    parser.add_argument(
        "--tiny", action="store_true", help="models of two layers, to try the benchmark itself"
    )
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES), help="default: all")
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="default: all"
    )
    parser.add_argument(
        "--minutes", type=float, default=6, help="no section begins after so long (default: 6)"
    )
    parser.add_argument(
        "--seconds", type=float, default=12, help="no further turn of a section begins after so long"
    )
    parser.add_argument("--json", type=Path, help="a file for the numbers, written with each line")
    options = parser.parse_args(arguments)
    options.compile_config = None
    if not options.device.startswith("cuda"):
        options.compile_config = _compiles_anywhere()
    return options


def _compiles_anywhere() -> Any:
    """Return a CompileConfig with which transformers traces steps on a CPU too, but compiles no code."""
    from transformers import CompileConfig

    config = CompileConfig(backend="eager", mode="default")
    config._compile_all_devices = True  # type: ignore[assignment]
    return config


if __name__ == "__main__":
    import sys

    torch.set_num_threads(os.cpu_count() or 1)
    main(sys.argv[1:])
