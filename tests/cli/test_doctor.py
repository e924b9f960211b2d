"""The doctor loads and runs models, and says why something does not work."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness.cli import doctor as module
from harness.cli.doctor import TRIED, TRIED_CACHES, doctor, try_quantization, write_tiny_model
from harness.config.point import Cache, Quantization
from harness.models import load as loading
from harness.models.caches import has_fp8_cache


@pytest.fixture(autouse=True)
def cpu_only(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setattr(module, "devices", lambda: ("cpu",))


def test_every_quantization_that_is_installed_works_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor() == 0
    printed = capsys.readouterr().out
    for name, package in [(q.name, "torchao" if q.torchao else "torch") for q in TRIED] + [
        (f"cache={cache.name}", "hqq" if cache.backend == "hqq" else "torch") for cache in TRIED_CACHES
    ]:
        (line,) = [line for line in printed.splitlines() if line.startswith(f"│ {name} ")]
        there = find_spec(package) is not None and (name != "cache=quantized_fp8" or has_fp8_cache())
        assert (" yes " in line) == there, "what is installed works"
    assert "transformers" in printed
    assert "vLLM" in printed
    assert "ONNX Runtime" in printed
    assert "OpenVINO" in printed
    assert "GiB" in printed


def test_what_is_tried_is_what_can_be_chosen() -> None:
    import yaml

    from harness.config.search_path import conf_folder

    for group, kind, tried in (("quantization", Quantization, TRIED), ("cache", Cache, TRIED_CACHES)):
        files = (conf_folder() / group).glob("*.yaml")
        choices = {path.stem: kind(name=path.stem, **yaml.safe_load(path.read_text())) for path in files}
        not_tried = choices.keys() - {one.name for one in tried}
        of_others = {
            name
            for name, one in choices.items()
            if getattr(one, "vllm", None) or getattr(one, "exported", None)
        }
        assert not_tried - of_others == {"none" if group == "quantization" else "default"}
        assert of_others <= not_tried
        assert {one.name: one for one in tried} == {one.name: choices[one.name] for one in tried}


def test_reasons_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    torchao = next(quantization for quantization in TRIED if quantization.torchao)
    refused = try_quantization(folder, torchao, "mps")
    assert (refused.works, "use one of none, fp32" in refused.reason) == (False, True)

    def broken(*args: Any) -> Any:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(loading, "read_model", broken)
    failed = try_quantization(folder, TRIED[0], "cpu")
    assert (failed.works, failed.reason) == (False, "RuntimeError: no kernel image")


def test_trying_leaves_the_global_random_state_unchanged(tmp_path: Path) -> None:
    import torch

    before = torch.random.get_rng_state()
    write_tiny_model(tmp_path / "tiny")
    assert torch.equal(before, torch.random.get_rng_state())
