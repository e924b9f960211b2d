"""A model that runs as an exported graph, before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.backends.backend import Backend, Target
from harness.backends.exported.export_checks import export_mistakes
from harness.backends.exported.export_folder import (
    export_facts,
    export_folder,
    given_fingerprint,
    given_folder,
)
from harness.backends.exported.runtimes import RUNTIMES, GraphRuntime
from harness.backends.hf.target import HfTarget
from harness.config.point import Point
from harness.errors import ConfigError
from harness.models.agreement import disagreements
from harness.models.amateur import KEY
from harness.models.device import worker_device
from harness.models.locate import locate
from harness.models.memory import weight_bytes
from harness.models.precision import Precision, checkpoint_precision, precision
from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from harness.once import Once
from harness.progress import Progress

VERSION = 1
"""Raise it when the backend makes other samples, or records them otherwise, than it did before."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ExportedTarget(HfTarget):
    """A model and its quantization in a runtime of graphs; see `backends.backend.Target`.

    Attributes:
        runtime: what runs the graph.
        folder: of the graph.
        made_here: the graph is exported into the folder where it is not there yet.
    """

    runtime: GraphRuntime
    folder: Path
    made_here: bool
    # The runtimes split sums by the shapes of a batch, and nothing promises how.
    same_batch_same_bits: ClassVar[bool] = False

    def amateur(self, name: str, once: Once, key: str = KEY) -> Mapping[str, Any]:
        """Refuse a second model."""
        return Target.amateur(self, name, once, key)

    def open(self, progress: Progress) -> Backend:
        """Export the model where that is not done yet, and load the graph."""
        from harness.backends.exported.exported_backend import ExportedBackend

        choice = self.model, self.quantization
        return ExportedBackend.open_graph(*choice, self.runtime, self.folder, self.made_here, progress)


def exported_target(point: Point, once: Once) -> ExportedTarget:
    """Locate a point's model and check that it can be run as a graph; nothing is loaded or exported.

    Raises:
        ConfigError: a package is missing, or the graph cannot run the point as requested.
    """
    model, quantization, backend = point.model, point.quantization, point.backend
    runtime, compressed = RUNTIMES[backend.kind], point.quantization.exported is not None
    made_here = backend.exported is None
    once(("runtime", backend.kind, made_here, compressed), lambda: _installed(runtime, made_here, compressed))
    files = once(("files", model), lambda: locate(model))
    if mistakes := list(export_mistakes(point, files)):
        raise ConfigError(mistakes)

    def make() -> ExportedTarget:
        tokenizer = once(("tokenizer", model), lambda: load_tokenizer(model, files))
        if backend.exported is None:
            facts = export_facts(runtime, files, compressed)
            folder = export_folder(facts)
        else:
            folder = given_folder(runtime, backend.exported)
            facts = {"kind": runtime.kind, "graph": given_fingerprint(folder), "weights": files.fingerprint}
        ran = {"versions": dict(runtime.versions(with_export=made_here, compressed=compressed))}
        return ExportedTarget(
            model=model.model_copy(update={"device": "cpu"}),
            quantization=quantization,
            runtime=runtime,
            folder=folder,
            made_here=made_here,
            info=files,
            device="cpu",
            elsewhere=worker_device(once),
            cache=None,
            facts={
                "backend": runtime.kind,
                "engine": VERSION,
                "quantization": quantization.model_dump(mode="json", include={"dtype", "exported"}),
                "device": "cpu",
                **facts,
                **ran,
            },
            tokenizer_facts=once(("tokenizer facts", model), lambda: tokenizer_fingerprint(model, files)),
            notes=tuple(disagreements(files, model.name, tokenizer)),
            precision=_just_below(precision(quantization, files)),
            checkpoint_precision=_just_below(checkpoint_precision(files)),
            weight_bytes=weight_bytes(files, quantization),
            loaded_tokenizer=tokenizer,
        )

    return once(("exported target", model, quantization, backend), make)


def _installed(runtime: GraphRuntime, made_here: bool, compressed: bool) -> bool:
    runtime.check(with_export=made_here, compressed=compressed)
    return True


def _just_below(found: Precision) -> Precision:
    """Return a precision below that of the same weights in transformers, which is then the reference."""
    bits, significand = found
    return bits, significand - 1
