"""A model run for its cost: what is timed as prefill and as decoding, and memory as seen from outside."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
import torch

from harness.backends.costing import CostedBackend, CostShape
from harness.backends.hf import model_runs
from harness.backends.hf.backend import HfBackend

SHAPE = CostShape(prompt_tokens=12, new_tokens=6, batch_size=2)


@pytest.fixture
def backend(loaded_model: Any) -> HfBackend:
    return HfBackend(loaded_model("llama"))


def test_prefill_is_the_prompt_and_decoding_all_tokens_after_the_first(
    backend: HfBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forward pass of the prompt takes 60 ms here, one of a token 10 ms, and nothing else any time."""
    model, seen, now = backend.loaded.model, [], [0.0]
    honest = model.forward
    monkeypatch.setattr(model_runs, "perf_counter", lambda: now[0])

    def slow(*args: Any, **inputs: Any) -> Any:
        seen.append(tuple(inputs["input_ids"].shape))
        now[0] += 0.06 if inputs["input_ids"].shape[1] > 1 else 0.01
        return honest(*args, **inputs)

    monkeypatch.setattr(model, "forward", slow)
    first, second = backend.run_model(SHAPE, 6, 2)
    assert seen == 2 * [(2, 12), *5 * [(2, 1)]], "end-of-text or not"
    for run in (first, second):
        assert run.prefill == pytest.approx(0.06)
        assert run.decode == pytest.approx(5 * 0.01)
        assert run.tokens == pytest.approx(5 * [0.01])
    (short,) = backend.run_model(SHAPE, 1)
    assert seen[-1] == (2, 12)
    assert short.tokens == ()
    assert short.decode == 0.0


def test_prompts_are_the_same_random_ids_of_the_vocabulary(
    backend: HfBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    honest = backend.loaded.model.generate

    def watched(**inputs: Any) -> Any:
        ids.append((inputs["input_ids"], inputs["attention_mask"]))
        return honest(**inputs)

    monkeypatch.setattr(backend.loaded.model, "generate", watched)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    backend.run_model(SHAPE, 2, 2)
    assert torch.equal(torch.get_rng_state(), before), "the global random state is unchanged"
    (first, mask), (second, _) = ids
    assert torch.equal(first, second)
    assert first.shape == mask.shape == (2, 12)
    assert bool(mask.all())
    assert 0 <= int(first.min()) <= int(first.max()) < backend.loaded.files.vocab_size
    assert len(first.unique()) > 6


def test_a_quantized_cache_is_used(backend: HfBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = []
    monkeypatch.setattr(
        backend.loaded.model, "generate", lambda **given: configs.append(given["generation_config"])
    )
    with pytest.raises(IndexError):  # no logits were computed
        backend.run_model(CostShape(8, 4, 1, cache={"backend": "fp8"}), 4)
    assert configs[0].cache_implementation == "quantized"
    assert configs[0].cache_config == {"backend": "fp8"}


_WATCHER = """
import sys, time, psutil
watched, most = psutil.Process(int(sys.argv[1])), 0
print("ready", flush=True)
while True:
    most = max(most, watched.memory_info().rss)
    print(most, flush=True)
    time.sleep(0.005)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a span of time")
def test_memory_is_what_another_process_sees(backend: HfBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forward pass holds 300 MB for a while here; what was larger before does not count."""
    import os

    earlier = torch.ones(200_000_000)  # 800 MB
    del earlier
    model = backend.loaded.model
    honest = model.forward

    def large(*args: Any, **inputs: Any) -> Any:
        scratch = torch.ones(75_000_000)
        time.sleep(0.05)
        del scratch
        return honest(*args, **inputs)

    monkeypatch.setattr(model, "forward", large)
    with subprocess.Popen(
        [sys.executable, "-c", _WATCHER, str(os.getpid())], stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "ready\n"
        found = backend.peak_memory(CostShape(8, 2, 1))
        watcher.terminate()
        seen = int(watcher.stdout.read().split()[-1]) / 1e6
    assert found.allocated is None
    assert found.reserved is None
    assert found.used == pytest.approx(seen, rel=0.03)


def test_it_is_what_measures_costs(backend: HfBackend) -> None:
    assert isinstance(backend, CostedBackend)
