"""The backend of exported graphs: that of transformers models, with a graph as the forward pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from transformers import AutoConfig

from harness.backends.exported.exported_model import ExportedCausalLM
from harness.backends.exported.graphs import Graph, open_graph
from harness.backends.exported.make_export import make_export
from harness.backends.exported.runtimes import GraphRuntime
from harness.backends.hf.backend import HfBackend
from harness.config.point import Engine, Model, Quantization
from harness.errors import HarnessError, first_line
from harness.models.device import cpu_threads
from harness.models.load import LoadedModel, free, keep_token_ids_only, load
from harness.models.locate import locate
from harness.models.weightless import weightless
from harness.progress import Progress, StagesInPercent

_MIB = 1024 * 1024


class ExportedBackend(HfBackend):
    """An exported graph that answers requests; a `backends.backend.Backend`.

    What decodes, records and times is what does so for transformers models: all of it calls the model's
    forward pass, which here is the graph. The self-test at load says whether the tree is right with it.
    """

    def __init__(self, loaded: LoadedModel, runtime: GraphRuntime, file: Path) -> None:
        """Take over a model whose forward pass is the graph in a file, opened with all threads."""
        self._runtime, self._file, self._graph_threads = runtime, file, cpu_threads()
        super().__init__(loaded)

    @classmethod
    def open_graph(
        cls,
        model: Model,
        quantization: Quantization,
        runtime: GraphRuntime,
        folder: Path,
        made_here: bool,
        progress: Progress,
    ) -> Self:
        """Read a graph from a folder; it is exported first where it is `made_here` and not there yet.

        Raises:
            HarnessError: the model cannot be loaded or exported, or the graph is not one of a decoder.
        """
        on_progress, file = StagesInPercent(progress), folder / runtime.file
        if made_here and not file.is_file():
            loaded = load(model, Quantization(name="fp32", dtype="float32"), on_progress)
            on_progress(f"exporting for {runtime.title}", 0.0)
            try:
                make_export(loaded, runtime, folder, compressed=quantization.exported is not None)
            finally:
                free(loaded)
        on_progress("loading the graph", 0.0)
        files = locate(model)
        graph = _opened(runtime, file, cpu_threads(), made_here)
        config = AutoConfig.from_pretrained(str(files.folder), trust_remote_code=model.trust_remote_code)
        exported = ExportedCausalLM(config, graph).eval()
        facts = {
            "memory_footprint_mb": _size(file) / _MIB,
            "quantized_modules": int(quantization.exported is not None),
            "attention": None,
            "compute_dtype": "float32",
            "graph": str(file),
        }
        empty = weightless(model, files, "float32", "cpu", **facts)
        keep_token_ids_only(exported, files, empty.tokenizer)
        on_progress("loaded", 1.0)
        return cls(replace(empty, model=exported), runtime, file)

    def configure(self, engine: Engine) -> None:
        """Set threads and batch rows; the graph is read again where it is to have other threads."""
        super().configure(engine)
        threads = torch.get_num_threads()
        if threads != self._graph_threads:
            self._loaded.model.graph = None
            self._loaded.model.graph = _opened(self._runtime, self._file, threads, False)
            self._graph_threads = threads

    @property
    def speculator(self) -> None:  # type: ignore[override]
        """None: drafts are checked by transformers models only."""
        return

    def close(self) -> None:
        """Free the graph."""
        self._loaded.model.graph = None
        super().close()


def _opened(runtime: GraphRuntime, file: Path, threads: int, made_here: bool) -> Graph:
    try:
        return open_graph(runtime.kind, file, threads)
    except Exception as error:  # of the runtime's own kinds
        cure = f"remove {file.parent}, and it is exported again" if made_here else "export it again"
        problem = f"{file} cannot be read: {first_line(error)}; {cure}"
        raise HarnessError(f"backend={runtime.kind}: {problem}") from error


def _size(file: Path) -> int:
    """Return the bytes of a graph and of the weights beside it."""
    return sum(one.stat().st_size for one in file.parent.iterdir() if one.name.startswith(file.stem))
