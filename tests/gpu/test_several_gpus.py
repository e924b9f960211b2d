"""A model on several GPUs answers as one on a single GPU: layers in turn, offloaded layers, and ranks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from living_processes import living_children

from harness.backends.backend import Failure, Request
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.shared_backend import SharedBackend
from harness.config.point import Engine, Model, Quantization
from harness.errors import RankLostError
from harness.models import load as loading
from harness.models.load import load
from harness.progress import SILENT
from harness.prompts.passages import Passage

FP32 = Quantization(name="fp32", dtype="float32")
STRATEGIES: tuple[dict[str, Any], ...] = (
    {},
    {"do_sample": True, "top_p": 0.9},
    {"do_sample": True, "dry_multiplier": 0.8},
    {"dola_layers": "low"},
    {"num_beams": 3},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"cot_branches": 3},
)


def placed(first: int | str, second: int | str) -> dict[str, int | str]:
    """A device map of the small Llama with its second layer and its head elsewhere."""
    return {
        "model.embed_tokens": first, "model.rotary_emb": first, "model.layers.0": first,
        "model.layers.1": second, "model.norm": second, "lm_head": second,
    }  # fmt: skip


@pytest.fixture
def two_gpus(device: str) -> None:
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")


@pytest.fixture
def single(on_device: Any) -> HfBackend:
    backend = HfBackend(on_device("llama"))
    backend.configure(Engine(compile="off"))
    return backend


@pytest.fixture
def requests(single: HfBackend, requests_of: Any, strategy_of: Any) -> list[Request]:
    strategies = [strategy_of(single.loaded, **one) for one in STRATEGIES]
    return [request for strategy in strategies for request in requests_of(single.loaded, strategy)]


def assert_equal(backend: HfBackend, single: HfBackend, requests: list[Request], tolerance: float) -> None:
    """Compare answers, prompt scores and likelihoods along a text."""
    found, expected = (list(one.generate(requests, SILENT)) for one in (backend, single))
    for one, other in zip(found, expected, strict=True):
        assert not isinstance(one, Failure), one
        assert not isinstance(other, Failure), other
        assert (one.token_ids, one.output) == (other.token_ids, other.output)
        assert one.steps is not None
        assert other.steps is not None
        for name in ("logprob", "entropy"):
            np.testing.assert_allclose(
                getattr(one.steps, name), getattr(other.steps, name), rtol=tolerance, atol=tolerance
            )
    prompts = [request.prompt for request in requests[:3]]
    for score, other_score in zip(backend.score(prompts), single.score(prompts), strict=True):
        np.testing.assert_allclose(score.logprob, other_score.logprob, rtol=tolerance, atol=tolerance)
    passages = [Passage(prompt.id, 0, prompt.ids, 1) for prompt in prompts]
    likelihoods = [one.distributions.log_likelihood(passages, SILENT) for one in (backend, single)]
    assert likelihoods[0] == pytest.approx(likelihoods[1], rel=max(tolerance, 1e-12))


def spread(small_model: Any, monkeypatch: pytest.MonkeyPatch, second: int | str) -> HfBackend:
    monkeypatch.setattr(loading, "device_map", lambda model, device: (placed(0, second), None))
    model = Model(name="m", id=str(small_model("llama")), device="cuda", devices="auto")
    backend = HfBackend(load(model, FP32))
    backend.configure(Engine())
    return backend


@pytest.mark.only_cuda
@pytest.mark.usefixtures("two_gpus")
def test_layers_on_two_gpus_decode_bit_for_bit(
    small_model: Any, single: HfBackend, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = spread(small_model, monkeypatch, 1)
    assert backend.loaded.placement.devices == ("cuda:0", "cuda:1")
    assert backend.loaded.placement.cache_share == 0.5
    assert not backend.warnings
    assert_equal(backend, single, requests, 0.0)
    assert not backend.usage().captured
    backend.close()


@pytest.mark.only_cuda
def test_layers_offloaded_to_the_cpu_decode_bit_for_bit(
    small_model: Any, single: HfBackend, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = spread(small_model, monkeypatch, "cpu")
    assert backend.loaded.placement.devices == ("cuda:0",)
    (line,) = backend.warnings
    assert "of the weights are on the CPU" in line
    assert_equal(backend, single, requests, 0.0)
    backend.close()


@pytest.fixture
def shared(small_model: Any, device: str) -> Iterator[Callable[[], SharedBackend]]:
    opened = []

    def open_shared() -> SharedBackend:
        model = Model(
            name="m", id=str(small_model("llama")), device=device, devices="tensor_parallel",
            tensor_parallel_size=2,
        )  # fmt: skip
        opened.append(SharedBackend.open_shared(model, FP32, SILENT, 2, device == "cuda"))
        opened[-1].configure(Engine())
        return opened[-1]

    yield open_shared
    for backend in opened:
        backend.close()


@pytest.mark.usefixtures("two_gpus")
def test_two_ranks_decode_like_one_gpu(
    shared: Callable[[], SharedBackend], single: HfBackend, requests: list[Request]
) -> None:
    backend = shared()
    assert backend.loaded.placement.ranks == 2
    assert_equal(backend, single, requests, 1e-3)  # TF32 and other kernels of NCCL's sums


@pytest.mark.usefixtures("two_gpus")
def test_a_rank_that_is_killed_is_one_line(
    shared: Callable[[], SharedBackend], requests: list[Request]
) -> None:
    backend = shared()
    (rank,) = living_children("rank_process")
    os.kill(rank.pid, signal.SIGKILL)
    with pytest.raises(RankLostError, match=r"rank 1 of 2 was killed \(SIGKILL\)"):
        list(backend.generate(requests, SILENT))
