"""A streamed request: the sample that `generate` returns, its tokens seen one by one before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.backends.backend import Failure, Request, StreamingBackend, TokenStep
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.verified_modes import VerifiedModes
from harness.progress import SILENT
from harness.store.records import Sample

STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "penalised": {"do_sample": True, "top_p": 0.9, "repetition_penalty": 1.3},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
}
COLUMNS = ("logprob", "warped_logprob", "rank", "entropy", "warped_entropy", "kept", "kept_mass")


@pytest.mark.parametrize("tree", [True, False], ids=["tree", "stock"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_the_sample_is_that_of_a_batch(
    name: str,
    tree: bool,
    loaded_model: Callable[..., Any],
    prompts_of: Callable[..., Any],
    strategy_of: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = loaded_model("fable_tiny")
    backend = HfBackend(loaded)
    assert isinstance(backend, StreamingBackend)
    if not tree:
        monkeypatch.setattr(backend.modes, "tree_is_right", False)
    strategy = strategy_of(loaded, max_new_tokens=12, stop_strings=[" the l"], **STRATEGIES[name])
    assert backend.streams(strategy)
    requests = [Request(prompt, 1, strategy) for prompt in prompts_of(loaded)[:2]]
    for request, stored in zip(requests, backend.generate(requests, SILENT), strict=True):
        assert isinstance(stored, Sample)
        steps: list[TokenStep] = []
        sample = backend.stream(request, steps.append)
        assert isinstance(sample, Sample)
        assert (sample.output, sample.token_ids) == (stored.output, stored.token_ids)
        assert sample.finish_reason == stored.finish_reason
        assert "".join(step.text for step in steps) == stored.output
        assert [step.position for step in steps] == list(range(len(steps)))
        assert tuple(step.token_id for step in steps) == stored.token_ids
        assert stored.steps is not None
        for column in COLUMNS:
            seen = [getattr(step, column) for step in steps]
            np.testing.assert_allclose(seen, getattr(stored.steps, column), atol=1e-5, err_msg=column)


def test_tokens_come_before_the_sample_is_complete(
    loaded_model: Callable[..., Any], prompts_of: Callable[..., Any], strategy_of: Callable[..., Any]
) -> None:
    """What the reader of the tokens raises ends the decoding at once, in every method."""
    loaded = loaded_model("fable_tiny")
    backend = HfBackend(loaded)
    for fields in STRATEGIES.values():
        strategy = strategy_of(loaded, max_new_tokens=50, **fields)
        seen: list[TokenStep] = []

        def read(step: TokenStep, seen: list[TokenStep] = seen) -> None:
            seen.append(step)
            if step.position == 3:
                raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            backend.stream(Request(prompts_of(loaded)[0], 0, strategy), read)
        assert len(seen) == 4


def test_searches_do_not_stream(loaded_model: Callable[..., Any], strategy_of: Callable[..., Any]) -> None:
    loaded = loaded_model("fable_tiny")
    backend = HfBackend(loaded)
    for fields in ({"num_beams": 3}, {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}):
        assert not backend.streams(strategy_of(loaded, **fields))


def test_a_request_that_fails_is_a_failure(
    loaded_model: Callable[..., Any],
    prompts_of: Callable[..., Any],
    strategy_of: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: VerifiedModes, request: Request) -> None:
        from harness.errors import HarnessError

        raise HarnessError("not this one")

    monkeypatch.setattr(VerifiedModes, "check_prompt", refuse)
    loaded = loaded_model("fable_tiny")
    request = Request(prompts_of(loaded)[0], 0, strategy_of(loaded))
    assert isinstance(HfBackend(loaded).stream(request, lambda _: None), Failure)
