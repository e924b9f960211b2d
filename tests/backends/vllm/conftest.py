"""An engine of vLLM with a small random model, beside the same model in transformers; only where vLLM is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from small_engines import opened


@pytest.fixture(scope="module")
def pair(small_model: Any, loaded_model: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """(VllmBackend, LoadedModel of transformers) of one small random model, of the kind asked for."""
    pytest.importorskip("vllm")
    kind = getattr(request, "param", "llama")
    # vLLM's attention on a CPU takes heads of 32 dimensions or more.
    with opened(str(small_model(kind, heads=2)), max_num_seqs=48) as backend:
        yield backend, loaded_model(kind, heads=2)
