"""What the GPU's benchmark has measured: lines printed as they come, the same as JSON, and the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "transformers", "bitsandbytes", "triton", "vllm")


@dataclass(frozen=True)
class Row:
    """One line of the table: where it was measured, and its numbers by name (`_ms`, `_share` and so on)."""

    section: str
    model: str
    case: str
    numbers: dict[str, float | bool]


@dataclass
class Report:
    """Prints each line at once, so that a run that is cut off has given what it had.

    Attributes:
        path: of a JSON file that is written again with each line; None for none.
        machine: what `machine` returns.
        rows: measured so far.
        notes: what could not be measured, and why.
    """

    path: Path | None
    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self, section: str, model: str, case: str, text: str, **numbers: float | bool) -> None:
        """Print one line, and keep its numbers."""
        self.rows.append(Row(section, model, case, numbers))
        print(f"{section:10}{model:16}{case:28}{text}", flush=True)
        self.write()

    def note(self, section: str, model: str, text: str) -> None:
        """Print why something was not measured."""
        self.notes.append(f"{section} {model}: {text}")
        print(f"{section:10}{model:16}{text}", flush=True)
        self.write()

    def write(self) -> None:
        """Write the JSON file, whole or not at all."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found = {"machine": self.machine, "rows": [asdict(row) for row in self.rows], "notes": self.notes}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(found, indent=1), encoding="utf-8")
        part.replace(self.path)


def machine(device: str) -> dict[str, Any]:
    """Return the card, its driver and clocks as they are now, and the versions of what is measured."""
    found: dict[str, Any] = {
        "device": device,
        "name": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "clock": "time.perf_counter",
        **{name: _version(name) for name in _PACKAGES},
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "name": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
            "clock": "CUDA events for device work, time.perf_counter after a synchronization for the rest",
            **_of_the_driver(),
        }
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _of_the_driver() -> dict[str, str]:
    """Return what nvidia-smi says of the first card: read only, nothing is set."""
    names = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu")
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return {"driver_version": f"unknown ({type(error).__name__})"}
    return dict(zip(names, (one.strip() for one in done.stdout.split(",")), strict=False))


def ms(seconds: float) -> str:
    """Return milliseconds with three digits that count."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
