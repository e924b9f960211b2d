"""The environment that is written beside each point."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from harness.config.point import Model, Quantization
from harness.models.describe import PACKAGES, environment, versions
from harness.models.load import load


def test_versions_are_the_installed_ones() -> None:
    found = versions()
    assert {"python", "harness", *PACKAGES} == set(found)
    assert found["torch"] == version("torch")
    assert found["transformers"] == version("transformers")


def test_environment_with_and_without_a_model(small_model: Any) -> None:
    import torch

    bare = environment()
    assert set(bare) == {"versions", "machine"}
    assert bare["machine"]["threads"] == torch.get_num_threads()
    loaded = load(Model(name="m", id=str(small_model("llama"))), Quantization(name="none"))
    full = json.loads(json.dumps(environment(loaded)))
    assert full["model"]["parameters"] == sum(t.numel for t in loaded.files.tensors)
    assert full["model"]["fingerprint"] == loaded.files.fingerprint
