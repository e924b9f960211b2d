"""The runtimes of exported graphs: what each needs installed, and its file. Nothing of them is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import ConfigError
from harness.models.packages import missing_packages, package_version

_TRANSFORMERS = (5, 24)
"""The first version whose `transformers.exporters` writes the graphs that are read here."""


@dataclass(frozen=True)
class GraphRuntime:
    """What runs a graph.

    Attributes:
        kind: `backend.kind`, and the extra of this project that installs it.
        title: its name in texts.
        runs: distributions, named as their modules, that run a graph.
        exports: further ones that write it.
        compresses: further ones that make its weights 8-bit integers.
        file: of a graph in its folder; its weights lie beside it.
    """

    kind: str
    title: str
    runs: tuple[str, ...]
    exports: tuple[str, ...]
    compresses: tuple[str, ...]
    file: str

    def versions(self, *, with_export: bool, compressed: bool) -> Mapping[str, str | None]:
        """Return the versions that samples depend on: of what runs the graph, and of what wrote it."""
        names = list(self.runs)
        if with_export:
            names += ["torch", "transformers", *self.exports, *(self.compresses if compressed else ())]
        return {name: package_version(name) for name in names}

    def check(self, *, with_export: bool, compressed: bool) -> None:
        """Check that what is needed is installed.

        Raises:
            ConfigError: a package is missing or too old.
        """
        needed = list(self.runs)
        if with_export:
            needed += [*self.exports, *(self.compresses if compressed else ())]
        if missing := missing_packages(needed, self.kind):
            raise ConfigError.of(f"backend={self.kind}", missing)
        version = package_version("transformers") or ""
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _TRANSFORMERS:
            wanted = ".".join(map(str, _TRANSFORMERS))
            problem = f"needs transformers {wanted} or later, and {version} is installed"
            cure = f"pip install 'decoding-harness[{self.kind}]'"
            raise ConfigError.of(f"backend={self.kind}", f"{problem}: {cure}")


RUNTIMES = {
    one.kind: one
    for one in (
        GraphRuntime("onnx", "ONNX Runtime", ("onnxruntime",), ("onnx", "onnxscript"), (), "model.onnx"),
        GraphRuntime("openvino", "OpenVINO", ("openvino",), (), ("nncf",), "openvino_model.xml"),
    )
}
"""By `backend.kind`."""


def installed_in_words(kind: str) -> str:
    """Return the version of a runtime and how it is used, or how it is installed."""
    runtime = RUNTIMES[kind]
    try:
        runtime.check(with_export=True, compressed=False)
    except ConfigError as error:
        return error.mistakes[0].message
    return f"{package_version(runtime.runs[0])}, on cpu: backend={kind}"
