"""How many ranks split a model here, and whether they can: told before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config.point import Model, Quantization
from harness.errors import ConfigError
from harness.models import tensor_parallel
from harness.models.load import load
from harness.models.locate import locate
from harness.models.tensor_parallel import Rank, cache_share, check_splittable, rank_count

PLAIN = Quantization(name="fp32", dtype="float32")


def chosen(folder: Path | str = "x", size: int | None = None, device: str = "auto") -> Model:
    return Model(
        name="m", id=str(folder), device=device, devices="tensor_parallel", tensor_parallel_size=size
    )


@pytest.mark.parametrize(
    ("gpus", "device", "size", "expected"),
    [
        (4, "cuda", None, 4),
        (4, "cuda", 2, 2),
        (0, "cpu", 2, 2),
        (1, "cuda", None, "needs two GPUs at least, and one is visible; use model.devices=single"),
        (3, "cuda", 4, "needs 4 GPUs, and 3 are visible; use model.tensor_parallel_size=3"),
        (1, "cuda", 2, "needs 2 GPUs, and 1 is visible; use model.devices=single"),
        (0, "cpu", None, "this machine has none; use model.devices=auto, or try it on the CPU with"),
        (2, "cpu", 2, "takes the GPUs that are visible; set CUDA_VISIBLE_DEVICES= to nothing"),
        (0, "mps", 2, "needs several GPUs, and mps is one"),
        (None, "cuda", 4, 4),  # of workers elsewhere
        (None, "cuda", None, "needs to know the GPUs of a worker; set model.tensor_parallel_size=2"),
    ],
)
def test_ranks_are_the_gpus_of_a_process(
    gpus: int | None, device: str, size: int | None, expected: int | str
) -> None:
    if isinstance(expected, int):
        assert rank_count(chosen(size=size), device, gpus) == expected
        return
    with pytest.raises(ConfigError) as caught:
        rank_count(chosen(size=size), device, gpus)
    assert expected in str(caught.value)


def with_config(folder: Path, source: Path, **values: Any) -> Path:
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "config.json").unlink()
    config = json.loads((source / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("values", "ranks", "expected"),
    [
        ({}, 2, None),
        ({}, 3, "has 4 attention heads and 2 of keys and values, which 3 ranks cannot share"),
        ({}, 4, "use model.tensor_parallel_size=2"),
        ({"num_attention_heads": 7, "num_key_value_heads": 7}, 4, "cannot share; use model.devices=auto"),
        ({"model_type": "gpt2"}, 2, "transformers has no plan to split gpt2; use model.devices=auto"),
        ({"model_type": "of_their_own"}, 2, "transformers has no plan to split of_their_own"),
        # Its projections are gathered: each rank has all heads.
        ({"model_type": "phi3", "num_attention_heads": 7, "num_key_value_heads": 7}, 4, None),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}},
            2,
            "packed weights cannot be split; use model.devices=auto, or a checkpoint that is not quantized",
        ),
    ],
)
def test_what_cannot_be_split_is_told_from_the_config(
    small_model: Any, tmp_path: Path, values: dict[str, Any], ranks: int, expected: str | None
) -> None:
    folder = with_config(tmp_path / "model", small_model("llama"), **values)
    model = chosen(folder, ranks)
    files = locate(model)
    if expected is None:
        check_splittable(model, PLAIN, files, ranks)
        assert cache_share(files, ranks) == (1.0 if "model_type" in values else 1 / ranks)
        return
    with pytest.raises(ConfigError) as caught:
        check_splittable(model, PLAIN, files, ranks)
    assert expected in str(caught.value)


def test_a_command_in_one_process_says_so(small_model: Any) -> None:
    with pytest.raises(ConfigError, match="this runs in one process; use model"):
        load(chosen(small_model("llama"), 2, "cpu"), PLAIN)


def test_each_rank_has_its_own_gpu() -> None:
    assert Rank(1, 2).device("cuda:0") == "cuda:1"
    assert Rank(1, 2).device("cpu") == "cpu"


def test_an_old_transformers_is_told(small_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_parallel, "package_version", lambda name: "5.9.1")
    model = chosen(small_model("llama"), 2)
    with pytest.raises(ConfigError, match=r"needs transformers 5\.24, this is 5\.9\.1; use model"):
        check_splittable(model, PLAIN, locate(model), 2)
