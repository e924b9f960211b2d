"""A graph as a transformers model, with a stand-in for the graph: everything but the runtimes themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_of_torch import TorchGraph

from harness.backends.backend import Failure, Request
from harness.backends.exported import exported_backend
from harness.backends.exported.exported_backend import ExportedBackend
from harness.backends.exported.exported_model import ExportedCausalLM
from harness.backends.exported.runtimes import RUNTIMES
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.padded_batch import pad_left
from harness.backends.hf.stock_generate import stock_generate
from harness.config.point import Engine, Timing
from harness.decoding.detokenizer import Detokenizer
from harness.errors import HarnessError
from harness.models.load import keep_token_ids_only
from harness.progress import SILENT
from harness.prompts.passages import Passage


@pytest.fixture(scope="module", params=["transformers", "optimum"])
def exported(request: pytest.FixtureRequest, loaded_model: Any) -> Any:
    """A LoadedModel whose model is an ExportedCausalLM over `fable_tiny`, named as either exporter does."""
    loaded = loaded_model("fable_tiny")
    model = ExportedCausalLM(loaded.model.config, TorchGraph(loaded.model, request.param)).eval()
    return replace(loaded, model=model)


def backend_of(exported: Any, file: Path = Path("model.onnx")) -> ExportedBackend:
    keep_token_ids_only(exported.model, exported.files, exported.tokenizer)
    backend = ExportedBackend(exported, RUNTIMES["onnx"], file)
    backend._graph_threads = torch.get_num_threads()
    backend.configure(Engine(threads=1))
    return backend


STRATEGIES = (
    {},
    {"do_sample": True, "top_p": 0.9},
    {"do_sample": True, "temperature": 1.4, "repetition_penalty": 1.2},
    {"num_beams": 3},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
    {"guidance_scale": 1.5},
)


@pytest.mark.parametrize("fields", STRATEGIES, ids=lambda fields: " ".join(fields) or "greedy")
def test_samples_and_probabilities_are_those_of_the_model(
    exported: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any, fields: Any
) -> None:
    loaded = loaded_model("fable_tiny")
    second = (1, 7, 9) if "guidance_scale" in fields else ()
    strategy = strategy_of(loaded, max_new_tokens=8, **fields)
    requests = [Request(prompt, 0, strategy, second) for prompt in prompts_of(loaded)]
    found = list(backend_of(exported).generate(requests, SILENT))
    backend = HfBackend(replace(loaded))
    backend.configure(Engine(threads=1))
    expected = list(backend.generate(requests, SILENT))
    assert not [one.error for one in (*found, *expected) if isinstance(one, Failure)]
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    assert [one.output for one in found] == [one.output for one in expected]
    for one, other in zip(found, expected, strict=True):
        for column in ("logprob", "warped_logprob", "entropy"):
            np.testing.assert_allclose(getattr(one.steps, column), getattr(other.steps, column), atol=2e-5)


def test_stock_generate_pads_and_records(
    exported: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """What is used where the tree is not right: stock `generate`, here over a ragged batch."""
    loaded = loaded_model("fable_tiny")
    strategy = strategy_of(loaded, max_new_tokens=6, do_sample=True, top_p=0.8)
    requests = [Request(prompt, 0, strategy) for prompt in prompts_of(loaded)]
    detokenizer = Detokenizer(loaded.tokenizer)
    found = stock_generate(exported, requests, detokenizer)
    expected = stock_generate(loaded, requests, detokenizer)
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]


def test_generate_is_that_of_transformers(exported: Any, loaded_model: Any, prompts_of: Any) -> None:
    """`generate` by itself, greedy and with beams, whose cache is reordered."""
    loaded = loaded_model("fable_tiny")
    inputs = pad_left([prompt.ids for prompt in prompts_of(loaded)], 0, "cpu")
    for beams in (1, 3):
        options = {"max_new_tokens": 6, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
        assert torch.equal(
            exported.model.generate(**inputs, **options), loaded.model.generate(**inputs, **options)
        )


def test_logits_are_kept_where_they_are_asked_for(exported: Any) -> None:
    ids = torch.arange(3, 15).view(2, 6)
    every = exported.model(input_ids=ids, use_cache=False).logits
    assert every.shape[:2] == (2, 6)
    torch.testing.assert_close(exported.model(input_ids=ids, logits_to_keep=2).logits, every[:, -2:])


def test_a_cache_takes_up_what_was_read(exported: Any) -> None:
    ids = torch.arange(3, 15).view(2, 6)
    every = exported.model(input_ids=ids).logits
    first = exported.model(input_ids=ids[:, :4])
    second = exported.model(input_ids=ids[:, 4:], cache=first.cache)
    assert second.cache is first.cache
    assert second.cache.get_seq_length() == 6
    torch.testing.assert_close(second.logits, every[:, 4:], atol=2e-5, rtol=1e-5)


def test_the_latency_pass_times_generate(exported: Any, prompts_of: Any, strategy_of: Any) -> None:
    backend = backend_of(exported)
    assert backend.modes.tree_is_right
    assert backend.warnings == ()
    requests = [Request(prompt, 0, strategy_of(exported)) for prompt in prompts_of(exported)]
    timing = Timing(name="quick", enabled=True, prompts=1, repeats=2, warmup=0, new_tokens=5)
    before = exported.model.graph.calls
    timed = backend.time(requests, timing, SILENT)
    assert exported.model.graph.calls == before + 2 * 5, "a prefill and a step for each further token"
    assert len(timed) == 2
    assert all(one.ttft_ms > 0 for one in timed)


def test_texts_are_read_again_and_compared(
    exported: Any, loaded_model: Any, prompts_of: Any, tmp_path: Path
) -> None:
    """Distributions along texts: those of the checkpoint are kept, and the graph's have no divergence."""
    loaded, prompt = loaded_model("fable_tiny"), prompts_of(loaded_model("fable_tiny"))[1]
    passages = [Passage(prompt.id, 0, prompt.ids, 3)]
    reference, graph = HfBackend(replace(loaded)).distributions, backend_of(exported).distributions
    keys = {"positions": 99, "together": 99, "budget": 2**26, "share": 1, "progress": SILENT}
    for number, kept_by in enumerate((reference, graph)):
        folder = tmp_path / str(number)
        kept_by.keep_reference(passages, folder, tmp_path / "heads", **keys)
        (found,) = graph.compare(graph.open_reference(folder, tmp_path / "heads"), 0, passages, 2)
        assert len(found.values["kl"]) == len(prompt.ids) - 3
        assert np.abs(found.values["kl"]).max() < 1e-6
    (scores,) = backend_of(exported).score([prompt])
    (expected,) = HfBackend(replace(loaded)).score([prompt])
    np.testing.assert_allclose(scores.logprob[1:], expected.logprob[1:], atol=2e-5)


def test_what_the_graph_does_not_return_is_an_error_in_words(exported: Any) -> None:
    with pytest.raises(HarnessError, match="no hidden states; use backend=hf"):
        exported.model(input_ids=torch.ones((1, 2), dtype=torch.long), output_hidden_states=True)
    assert backend_of(exported).speculator is None


def test_other_threads_read_the_graph_again(
    exported: Any, loaded_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def open_graph(kind: str, path: Path, threads: int) -> TorchGraph:
        opened.append((kind, path, threads))
        return TorchGraph(loaded_model("fable_tiny").model)

    monkeypatch.setattr(exported_backend, "open_graph", open_graph)
    backend = backend_of(replace(exported, model=_copy(exported, loaded_model)))
    backend.configure(Engine(threads=1))
    assert opened == []
    backend.configure(Engine(threads=2))
    assert opened == [("onnx", Path("model.onnx"), 2)]
    backend.configure(Engine(threads=1))
    backend.close()
    with pytest.raises(HarnessError, match="closed"):
        backend.loaded.model(input_ids=torch.ones((1, 2), dtype=torch.long))


def _copy(exported: Any, loaded_model: Any) -> ExportedCausalLM:
    model = loaded_model("fable_tiny").model
    return ExportedCausalLM(model.config, TorchGraph(model)).eval()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"inputs": {"beam_idx": (None,)}},
            "keeps its cache within .stateful.; export it with stateful=False",
        ),
        ({"inputs": {"pixel_values": (None,)}}, "takes pixel_values"),
        ({"outputs": ("logits",)}, "must return logits, and take and return a cache"),
        ({"inputs": {"past_key_values.0.key": (None, None, None, 32)}}, "leaves the heads of"),
    ],
)
def test_a_graph_of_another_kind_is_refused(loaded_model: Any, change: Any, said: str) -> None:
    model = loaded_model("fable_tiny").model
    graph = TorchGraph(model, "optimum")
    graph.inputs |= change.get("inputs", {})
    graph.outputs = change.get("outputs", graph.outputs)
    with pytest.raises(HarnessError, match=said):
        ExportedCausalLM(model.config, graph)
