"""Exports by transformers, run by ONNX Runtime and OpenVINO, beside transformers itself; `make test-onnx`."""

from __future__ import annotations

import json
from collections import defaultdict
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from every_strategy import choices, plain

from harness.backends.backend import Failure, Request
from harness.backends.exported import make_export as module
from harness.backends.exported.exported_backend import ExportedBackend
from harness.backends.exported.make_export import make_export
from harness.backends.exported.runtimes import RUNTIMES
from harness.backends.hf.tree import decode_tree
from harness.cli.main import main
from harness.config.point import Engine, Model, Quantization
from harness.decoding.detokenizer import Detokenizer
from harness.errors import HarnessError
from harness.progress import SILENT
from harness.store.stored_point import StoredPoint

pytestmark = pytest.mark.graphs

FP32 = Quantization(name="fp32", dtype="float32")
KINDS = ("onnx", "openvino")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what the tests export, once."""
    for name in ("onnxruntime", "onnx", "onnxscript", "openvino", "nncf"):
        pytest.importorskip(name)
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="session")
def opened(exports: Path, small_model: Any) -> Any:
    """`opened("onnx", "gpt2")`: an ExportedBackend with a small model."""
    found: dict[tuple[str, str], ExportedBackend] = {}

    def open_one(kind: str, name: str = "fable_tiny") -> ExportedBackend:
        if (kind, name) not in found:
            folder = name if name.startswith("fable") else str(small_model(name))
            model = Model(name=name, id=folder, device="cpu")
            backend = ExportedBackend.open_graph(
                model, FP32, RUNTIMES[kind], exports / f"{kind}-{name}", True, SILENT
            )
            backend.configure(Engine(threads=1))
            found[kind, name] = backend
        return found[kind, name]

    return open_one


@pytest.mark.parametrize("kind", KINDS)
def test_every_strategy_takes_the_tokens_that_it_takes_in_transformers(
    kind: str, opened: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("fable_tiny")
    prompts = prompts_of(loaded)[:3]
    every = [{name: plain(value) for name, value in fields.items()} for fields in choices().values()]
    assert len(every) >= 39
    strategies = [strategy_of(loaded, max_new_tokens=12, **fields) for fields in every]
    requests = [Request(prompt, 0, one) for one in strategies for prompt in prompts]
    found = list(opened(kind).generate(requests, SILENT))
    expected = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    assert not [one.error for one in found if isinstance(one, Failure)]
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.steps.logprob, other.steps.logprob, atol=1e-4)
        np.testing.assert_allclose(one.steps.entropy, other.steps.entropy, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "qwen2"])
@pytest.mark.parametrize("kind", KINDS)
def test_architectures(
    kind: str, name: str, opened: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """Other positions, biases, heads; the tree is right with each."""
    loaded, backend = loaded_model(name), opened(kind, name)
    assert backend.warnings == ()
    requests = [
        Request(prompt, 0, strategy_of(loaded, max_new_tokens=8, **fields))
        for fields in ({}, {"do_sample": True, "top_p": 0.9})
        for prompt in prompts_of(loaded)
    ]
    found = list(backend.generate(requests, SILENT))
    expected = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]


def test_a_sweep_beside_transformers(
    exports: Path, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command: samples, probabilities, latency, drift; integers drift, floats do not."""
    words = ["model=fable_tiny", "model.device=cpu", "tracking=off", "prompts.limit=2", "engine.threads=1"]
    words += ["generation.max_new_tokens=8", "timing=quick", "timing.prompts=1", "timing.repeats=2"]
    cases = json.dumps([[f"backend={kind}", "quantization=exported_int8"] for kind in KINDS])
    sweep = ["-m", "backend=hf,onnx,openvino", "quantization=fp32", "decoding=greedy,top_p", f"cases={cases}"]
    assert main([*words, *sweep]) == 0, capsys.readouterr()
    stored: dict[tuple[str, str, str], StoredPoint] = {}
    for folder in (outputs / "points").iterdir():
        point = StoredPoint(folder)
        requested = point.config()["requested"]
        key = tuple(requested[name]["name"] for name in ("backend", "quantization", "decoding"))
        stored[key] = point
    columns: dict[Any, Any] = defaultdict(dict)
    for key, point in stored.items():
        for row in point.rows("tokens"):
            for name in ("token_id", "logprob", "warped_logprob"):
                columns[key].setdefault(name, []).append(row[name])
        metrics = point.metrics()["metrics"]
        assert metrics["latency/itl_p50_ms"] > 0
        if key[0] != "hf":
            kl, int8 = metrics["drift/kl_mean"], key[1] == "exported_int8"
            assert (1e-7 < kl < 0.05) if int8 else (abs(kl) < 1e-9)
    for kind in KINDS:
        for decoding in ("greedy", "top_p"):
            here, there = columns[kind, "fp32", decoding], columns["hf", "fp32", decoding]
            assert here["token_id"] == there["token_id"]
            for name in ("logprob", "warped_logprob"):
                np.testing.assert_allclose(here[name], there[name], atol=1e-4)
    assert len(list((outputs / "exports").iterdir())) == 4


def test_a_graph_that_computes_something_else_is_refused(
    exports: Path, opened: Any, loaded_model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What an exporter makes is compared with the model that it was made of: here with another one."""
    opened("onnx")

    class Made:
        def save_pretrained(self, folder: Path) -> None:
            copytree(exports / "onnx-fable_tiny", folder, dirs_exist_ok=True)

    loaded = loaded_model("fable_tiny")
    monkeypatch.setattr(module, "_export", lambda *_: Made())
    make_export(loaded, RUNTIMES["onnx"], tmp_path / "right", compressed=False)
    other = deepcopy(loaded.model)
    with torch.no_grad():
        other.model.layers[1].mlp.down_proj.weight *= 1.01
    with pytest.raises(
        HarnessError, match="is exported wrongly for ONNX Runtime: log-probabilities differ by"
    ):
        make_export(replace(loaded, model=other), RUNTIMES["onnx"], tmp_path / "export", compressed=False)
    assert [one.name for one in tmp_path.iterdir()] == ["right"]


def test_what_cannot_be_exported_says_so(
    exports: Path, loaded_model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no operator for it\nand a long trace")

    monkeypatch.setattr(torch.export, "export", fails)
    with pytest.raises(HarnessError) as caught:
        make_export(loaded_model("llama"), RUNTIMES["openvino"], tmp_path / "export", compressed=False)
    assert "cannot be exported for OpenVINO: no operator for it; use backend=hf" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_file_says_so(kind: str, exports: Path, tmp_path: Path) -> None:
    file = tmp_path / RUNTIMES[kind].file
    file.write_bytes(b"no graph")
    model = Model(name="fable_tiny", id="fable_tiny", device="cpu")
    with pytest.raises(HarnessError, match=f"backend={kind}: .* cannot be read: .*; export it again"):
        ExportedBackend.open_graph(model, FP32, RUNTIMES[kind], tmp_path, False, SILENT)
