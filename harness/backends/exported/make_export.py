"""Exports a checkpoint to a graph with transformers' own exporters, and compares it with the checkpoint."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.backends.exported.exported_model import ExportedCausalLM
from harness.backends.exported.graphs import open_graph
from harness.backends.exported.runtimes import GraphRuntime
from harness.errors import HarnessError, first_line
from harness.models.load import LoadedModel
from harness.models.weight_progress import quiet_loading

CLOSE = 1e-3
"""Nats that a log-probability of the graph may differ by from the checkpoint's in float32."""
_READ, _NEW, _ROWS = 5, 3, 2
"""Tokens read, tokens to read, rows: different, since axes of one size would be taken for one axis."""


def make_export(loaded: LoadedModel, runtime: GraphRuntime, folder: Path, *, compressed: bool) -> None:
    """Export a model that is loaded in float32 on the CPU into a folder, complete once it appears.

    Raises:
        HarnessError: its architecture cannot be exported, or the graph computes something else.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    name = f"model.id: {loaded.files.id} ({loaded.facts['architecture']})"
    try:
        try:
            with _quiet():
                _export(loaded.model, runtime.kind, compressed).save_pretrained(scratch)
            difference = _difference(loaded.model, runtime, scratch)
        except Exception as error:  # exporters raise whatever torch.export, onnxscript or OpenVINO raise
            problem = f"cannot be exported for {runtime.title}: {first_line(error)}"
            raise HarnessError(f"{name} {problem}; use backend=hf") from error
        if not compressed and not difference <= CLOSE:
            problem = f"is exported wrongly for {runtime.title}: log-probabilities differ by {difference:.2g}"
            raise HarnessError(f"{name} {problem} nats from its own; use backend=hf")
        with contextlib.suppress(OSError):  # another process was first
            os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _export(model: Any, kind: str, compressed: bool) -> Any:
    from transformers import exporters

    inputs = _inputs(model)
    any_size = torch.export.Dim.AUTO
    shapes: dict[str, Any] = {name: {0: any_size, 1: any_size} for name in inputs if name != "logits_to_keep"}
    shapes["cache"] = [{0: any_size, 2: any_size}] * (2 * len(inputs["cache"].layers))
    shapes["logits_to_keep"] = {0: any_size}
    shapes = {name: shapes[name] for name in inputs}
    options: dict[str, Any] = {"dynamic": True, "dynamic_shapes": shapes}
    if kind == "onnx":
        if compressed:
            how = exporters.OnnxRuntimeDynamicConfig()
            options["quantizer"] = exporters.OnnxRuntimeQuantizer(how)
        return exporters.OnnxExporter().export(model, inputs, exporters.OnnxConfig(**options))
    if compressed:
        quantizer = exporters.NNCFOpenVINOQuantizer(exporters.NNCFWeightCompressionConfig())
        options["quantizer"] = quantizer
    config = exporters.OpenVINOConfig(stateful=False, **options)
    return exporters.OpenVINOExporter().export(model, inputs, config)


@torch.inference_mode()
def _inputs(model: Any, read: int = _READ) -> dict[str, Any]:
    """Return arguments of `forward`: some more tokens of two texts of which one is padded on the left."""
    from transformers import DynamicCache

    count = model.config.get_text_config().vocab_size
    ids = torch.arange(3, 3 + _ROWS * (read + _NEW)).view(_ROWS, -1) % count
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    known = signature(model.forward).parameters
    cache = DynamicCache(config=model.config)

    def arguments(part: slice, upto: int) -> dict[str, Any]:
        found: dict[str, Any] = {"input_ids": ids[:, part], "attention_mask": mask[:, :upto]}
        if "position_ids" in known:
            found["position_ids"] = positions[:, part]
        return {**found, "cache": cache}

    if read:
        model(**arguments(slice(0, read), read), use_cache=True)
    inputs = arguments(slice(read, None), read + _NEW)
    if "logits_to_keep" in known:
        inputs["logits_to_keep"] = torch.arange(_NEW - 2, _NEW)
    return inputs


@torch.inference_mode()
def _difference(model: Any, runtime: GraphRuntime, folder: Path) -> float:
    """Return the largest difference of log-probabilities after a cache, and at the beginning of texts."""
    graph = open_graph(runtime.kind, folder / runtime.file, torch.get_num_threads())
    exported = ExportedCausalLM(model.config, graph)
    largest = 0.0
    for read in (_READ, 0):
        inputs = {**_inputs(model, read), "logits_to_keep": 2}
        if "logits_to_keep" not in signature(model.forward).parameters:
            expected = _logits(model, {**inputs, "logits_to_keep": None})[:, -2:]
        else:
            expected = _logits(model, inputs)
        gap = (_logits(exported, inputs).log_softmax(-1) - expected.log_softmax(-1)).abs()
        of_texts = gap[inputs["attention_mask"][:, -2:] == 1]  # what follows padding is read by nobody
        largest = max(largest, float(of_texts.max().nan_to_num(nan=torch.inf)))
    return largest


def _logits(model: Any, inputs: dict[str, Any]) -> Tensor:
    given = {name: value for name, value in copy.deepcopy(inputs).items() if value is not None}
    return model(**given, use_cache=True).logits.float()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporters say of their progress, and of operators that are not used, to themselves."""
    disabled = logging.root.manager.disable
    with quiet_loading(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)
