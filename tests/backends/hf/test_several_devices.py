"""A model on several devices answers as one on a single device: offloaded layers, and ranks that split it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from living_processes import living_children
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

from harness.backends.backend import Failure, Request
from harness.backends.costing import CostShape
from harness.backends.drafting import Draft
from harness.backends.hf import device_memory, rank_group
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.row_cache import RowLayer, select_rows
from harness.backends.hf.shared_backend import SharedBackend
from harness.config.point import Engine, Model, Quantization, Timing
from harness.errors import HarnessError, RankLostError
from harness.models import load as loading
from harness.models.load import load
from harness.progress import SILENT
from harness.prompts.passages import Passage

FP32 = Quantization(name="fp32", dtype="float32")
ON_DISK = {
    "model.embed_tokens": "disk", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu",
    "model.rotary_emb": "cpu", "lm_head": "disk",
}  # fmt: skip
STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "top_p": {"do_sample": True, "top_p": 0.9},
    "mirostat": {"do_sample": True, "mirostat_mode": 2},
    "dry": {"do_sample": True, "dry_multiplier": 0.8},
    "dola": {"dola_layers": "low"},
    "beam": {"num_beams": 3},
    "beam_sample": {"num_beams": 3, "do_sample": True},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "cot": {"cot_branches": 3},
}


def model(folder: Any, **fields: Any) -> Model:
    return Model(name="m", id=str(folder), device="cpu", **fields)


@pytest.fixture
def single(loaded_model: Any) -> HfBackend:
    backend = HfBackend(loaded_model("llama"))
    backend.configure(Engine(threads=1))
    return backend


@pytest.fixture
def requests(single: HfBackend, prompts_of: Any, strategy_of: Any) -> list[Request]:
    strategies = [strategy_of(single.loaded, max_new_tokens=10, **one) for one in STRATEGIES.values()]
    prompts = prompts_of(single.loaded)[:3]
    return [Request(prompt, 0, strategy) for strategy in strategies for prompt in prompts]


@pytest.fixture
def shared(small_model: Any) -> Iterator[Callable[..., SharedBackend]]:
    opened: list[SharedBackend] = []

    def open_shared(kind: str = "llama", ranks: int = 2, **habits: Any) -> SharedBackend:
        chosen = model(small_model(kind, **habits), devices="tensor_parallel", tensor_parallel_size=ranks)
        opened.append(SharedBackend.open_shared(chosen, FP32, SILENT, ranks, cuda=False))
        opened[-1].configure(Engine(threads=1))
        return opened[-1]

    yield open_shared
    for backend in opened:
        backend.close()
    assert not others()


def others() -> list[psutil.Process]:
    """The ranks beside this process."""
    return living_children("harness.backends.hf.rank_process")


def assert_equal(answers: list[Any], expected: list[Any], tolerance: float) -> None:
    for one, other in zip(answers, expected, strict=True):
        assert not isinstance(one, Failure), one
        assert (one.token_ids, one.output, one.finish_reason) == (
            other.token_ids, other.output, other.finish_reason,
        )  # fmt: skip
        for name in ("logprob", "entropy", "warped_logprob"):
            np.testing.assert_allclose(
                getattr(one.steps, name), getattr(other.steps, name), rtol=tolerance, atol=tolerance
            )


def test_offloaded_layers_decode_bit_for_bit(
    small_model: Any, single: HfBackend, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "device_map", lambda model, device: (ON_DISK, None))
    backend = HfBackend(load(model(small_model("llama"), devices="auto"), FP32))
    backend.configure(Engine(threads=1))
    few = requests[:3] + requests[3::3]
    assert_equal(list(backend.generate(few, SILENT)), list(single.generate(few, SILENT)), 0.0)
    prompts = [request.prompt for request in requests[:3]]
    for one, other in zip(backend.score(prompts), single.score(prompts), strict=True):
        np.testing.assert_array_equal(one.logprob, other.logprob)
    (line,) = backend.warnings
    assert "of the weights are on the disk" in line
    assert backend.environment()["model"]["devices"] == "auto"
    assert not backend.usage().captured
    backend.close()


class OnMeta(RowLayer):
    """A layer that lies on another device, and takes no indices of this one."""

    def move(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        assert sources.device == targets.device == self.device
        super().move(sources, targets)


def test_rows_are_selected_by_indices_on_the_device_of_each_layer() -> None:
    states = torch.arange(24.0).view(3, 1, 4, 2)
    window = DynamicSlidingWindowLayer(sliding_window=8)
    layers: list[Any] = [RowLayer(4, 6), OnMeta(4, 6), window]
    for layer in layers:
        where = "meta" if isinstance(layer, OnMeta) else "cpu"
        layer.update(states.to(where), states.to(where))
    cache = DynamicCache()
    cache.layers = layers
    select_rows(cache, [0, 2, 1, 1], "cpu")
    for layer in (layers[0], window):
        assert torch.equal(layer.keys, states[[0, 2, 1, 1]])
    assert layers[1].keys.shape == (4, 1, 4, 2)


def test_two_ranks_decode_like_one_process(shared: Any, single: HfBackend, requests: list[Request]) -> None:
    few = requests[:4]  # of two strategies
    assert_equal(list(shared().generate(few, SILENT)), list(single.generate(few, SILENT)), 2e-5)


@pytest.mark.slow
def test_two_ranks_answer_like_one_process(shared: Any, single: HfBackend, requests: list[Request]) -> None:
    backend = shared()
    assert_equal(list(backend.generate(requests, SILENT)), list(single.generate(requests, SILENT)), 2e-5)
    assert backend.batch_size(requests) <= single.batch_size(requests)
    prompts = [request.prompt for request in requests[:3]]
    for one, other in zip(backend.score(prompts), single.score(prompts), strict=True):
        np.testing.assert_allclose(one.logprob, other.logprob, rtol=1e-5, atol=1e-5)
    streamed = []
    sample = backend.stream(requests[3], streamed.append)
    assert tuple(step.token_id for step in streamed) == sample.token_ids
    tokens = prompts[0].ids + tuple(sample.token_ids)
    passages = [Passage(prompts[0].id, 0, tokens, len(prompts[0].ids))]
    assert backend.distributions.log_likelihood(passages, SILENT) == pytest.approx(
        single.distributions.log_likelihood(passages, SILENT), abs=1e-4
    )
    draft = Draft("early_exit", "first", layers=1)
    along, expected = (one.speculator.along([(requests[0], (5, 6, 7))], [draft]) for one in (backend, single))
    np.testing.assert_array_equal(along[0]["first"].proposals, expected[0]["first"].proposals)
    run, expected_run = (one.speculator.run(requests[0], draft, 2) for one in (backend, single))
    assert run.tokens == expected_run.tokens
    timing = Timing(name="t", prompts=1, repeats=1, warmup=0, new_tokens=3)
    assert len(backend.time(requests[:1], timing, SILENT)) == 1
    assert [len(run.tokens) for run in backend.run_model(CostShape(8, 4, 1), 4, 2)] == [3, 3]
    assert backend.peak_memory(CostShape(8, 4, 1)).used
    facts = backend.environment()["model"]
    assert (facts["devices"], facts["device_count"]) == ("tensor_parallel", 2)
    # All weights but the norms, of which each rank has a copy.
    whole = single.environment()["model"]["memory_footprint_mb"]
    assert whole < facts["memory_footprint_mb"] < 1.02 * whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "habits"), [("qwen2", {}), ("mistral", {}), ("llama", {"tied": True}), ("qwen2", {"heads": 8})]
)
def test_other_shapes(
    shared: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any, kind: str, habits: dict[str, Any]
) -> None:
    alone = HfBackend(loaded_model(kind, **habits))
    alone.configure(Engine(threads=1))
    strategies = [strategy_of(alone.loaded, max_new_tokens=12, **one) for one in STRATEGIES.values()]
    wanted = [Request(prompt, 0, one) for one in strategies for prompt in prompts_of(alone.loaded)]
    backend = shared(kind, 4 if habits.get("heads") == 8 else 2, **habits)
    assert backend.modes.tree_is_right
    assert_equal(list(backend.generate(wanted, SILENT)), list(alone.generate(wanted, SILENT)), 5e-5)


def test_a_rank_that_cannot_start_is_one_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ImportError: no such library' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(rank_group.sys, "executable", str(broken))
    with pytest.raises(RankLostError) as caught:
        rank_group.RankGroup(2, cuda=False)
    assert str(caught.value) == (
        "rank 1 of 2 ended with exit status 3; its last line: ImportError: no such library; what is stored "
        "is kept, and the same command goes on from there"
    )


@pytest.mark.slow
def test_a_rank_that_is_killed_is_one_line(shared: Any, requests: list[Request]) -> None:
    backend = shared()
    (rank,) = others()
    os.kill(rank.pid, signal.SIGKILL)
    started = time.monotonic()
    for _ in range(2):
        with pytest.raises(RankLostError) as caught:
            list(backend.generate(requests, SILENT))
        assert str(caught.value) == (
            "rank 1 of 2 was killed (SIGKILL), as the system does when memory runs out; what is stored is "
            "kept, and the same command goes on from there"
        )
    assert time.monotonic() - started < rank_group.IN_STEP_S


@pytest.mark.slow
def test_a_reader_who_is_gone_ends_the_stream_at_once(shared: Any, requests: list[Request]) -> None:
    backend = shared()

    def gone(step: Any) -> None:
        raise BrokenPipeError

    started = time.monotonic()
    with pytest.raises(BrokenPipeError):
        backend.stream(requests[0], gone)
    assert time.monotonic() - started < rank_group.IN_STEP_S
    with pytest.raises(RankLostError, match="it was interrupted"):
        list(backend.generate(requests, SILENT))


@pytest.mark.slow
def test_what_fails_on_all_ranks_leaves_them_in_step(
    shared: Any, single: HfBackend, requests: list[Request]
) -> None:
    backend = shared()
    timing = Timing(name="t", prompts=1, repeats=1, warmup=0, new_tokens=3)
    with pytest.raises(IndexError):
        backend.time([], timing, SILENT)
    assert_equal(
        list(backend.generate(requests[:3], SILENT)), list(single.generate(requests[:3], SILENT)), 2e-5
    )


@pytest.mark.slow
def test_memory_that_runs_out_on_one_rank_is_one_line(
    shared: Any, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = shared()

    def full(self: Any, *args: Any, **keys: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(backend.loaded.model), "forward", full)
    with pytest.raises(
        RankLostError, match=r"out of memory on cpu with 3 in a batch; set engine.batch_rows=1"
    ):
        list(backend.generate(requests[:3], SILENT))


@pytest.mark.slow
def test_ranks_that_compute_something_else_are_noticed(
    shared: Any, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = shared()
    monkeypatch.setattr("harness.backends.hf.shared_backend.digest_of", lambda answers: "another")
    with pytest.raises(RankLostError, match="rank 1 found something else than rank 0"):
        list(backend.generate(requests[:3], SILENT))


@pytest.mark.slow
def test_a_model_that_does_not_load_leaves_no_rank(small_model: Any) -> None:
    folder = small_model("llama", fits=False)
    chosen = model(folder, devices="tensor_parallel", tensor_parallel_size=2)
    with pytest.raises(HarnessError, match=r"^model\.id: .*other shapes"):
        SharedBackend.open_shared(chosen, FP32, SILENT, 2, cuda=False)
    assert not others()
    assert not torch.distributed.is_initialized()


def test_threads_and_memory_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.models.placement import Placement

    monkeypatch.setattr(device_memory, "cpu_threads", lambda: 8)
    monkeypatch.setattr(device_memory, "available_bytes", {"cuda:0": 7, "cuda:1": 5, "cpu": 9}.__getitem__)
    assert device_memory.own_threads(Placement("single", ("cpu",))) == 8
    assert device_memory.own_threads(Placement("tensor_parallel", ("cpu",), ranks=3)) == 2
    assert device_memory.own_threads(Placement("tensor_parallel", ("cuda:0",), ranks=3)) == 8
    assert device_memory.free_bytes(Placement("auto", ("cuda:0", "cuda:1"))) == 5
