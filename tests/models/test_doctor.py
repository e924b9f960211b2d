"""The doctor tries for real, and says why something does not work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config.point import Quantization
from harness.models import doctor as module
from harness.models import load as loading
from harness.models.doctor import TRIED, doctor, try_quantization, write_tiny_model


@pytest.fixture(autouse=True)
def cpu_only(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setattr(module, "devices", lambda: ("cpu",))


def test_every_quantization_works_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor() == 0
    told = capsys.readouterr().out
    for quantization in TRIED:
        (line,) = [line for line in told.splitlines() if f" {quantization.name} " in line]
        assert " yes " in line
    assert "transformers" in told
    assert "GiB" in told


def test_reasons_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    both = Quantization(name="both", load_in_4bit=True, load_in_8bit=True)
    refused = try_quantization(folder, both, "cpu")
    assert (refused.works, "choose one" in refused.reason) == (False, True)

    def broken(*args: Any) -> Any:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(loading, "read_model", broken)
    failed = try_quantization(folder, TRIED[0], "cpu")
    assert (failed.works, failed.reason) == (False, "RuntimeError: no kernel image")


def test_trying_leaves_the_global_luck_alone(tmp_path: Path) -> None:
    import torch

    before = torch.random.get_rng_state()
    write_tiny_model(tmp_path / "tiny")
    assert torch.equal(before, torch.random.get_rng_state())
