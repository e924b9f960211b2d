"""Headers and fingerprints, held against safetensors' own reader."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.models import weights
from harness.models.weights import fingerprint_file, main_dtype, read_header


def test_the_header_says_what_safetensors_reads(small_model: Any) -> None:
    from safetensors import safe_open

    path = small_model("llama", dtype="float16") / "model.safetensors"
    tensors = {tensor.name: tensor for tensor in read_header(path)}
    with safe_open(path, framework="np") as file:
        assert set(file.keys()) == set(tensors)
        for name in file.keys():  # noqa: SIM118
            array = file.get_tensor(name)
            assert (tensors[name].shape, tensors[name].nbytes) == (array.shape, array.nbytes)
    assert main_dtype(list(tensors.values())) == "float16"


def test_broken_files_are_told(tmp_path: Path, small_model: Any) -> None:
    whole = (small_model("llama") / "model.safetensors").read_bytes()
    for name, content in {
        "cut": whole[:-100],
        "head": whole[:50],
        "none": b"",
        "text": b"<html>not found</html>",
    }.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(
            ConfigError, match=r"^model\.id: .* cannot be read as safetensors: .*; fetch it again$"
        ):
            read_header(path)


def test_small_files_are_hashed_whole(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    assert fingerprint_file(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    os.utime(path, (1, 1))
    assert fingerprint_file(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_large_files_change_with_size_time_header_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MAX_FULL_HASH", 1_000_000)
    path = tmp_path / "a"

    def written(content: bytes, when: int = 5) -> str:
        path.write_bytes(content)
        os.utime(path, (when, when))
        return fingerprint_file(path)

    base = b"x" * 4_000_000
    first = written(base)
    assert written(base) == first
    others = [
        written(base, when=6),
        written(base + b"x"),
        written(b"y" + base[1:]),
        written(base[:-1] + b"y"),
    ]
    assert len({first, *others}) == 5
