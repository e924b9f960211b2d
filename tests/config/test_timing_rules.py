"""What is wrong with `timing`, and what has no effect: of strategies, and of a model by itself."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config.point import Backend
from harness.config.timing_rules import cost_of_a_model, timing_rules
from harness.config.timing_section import Timing


def timing(**fields: Any) -> Timing:
    return Timing(**{"name": "quick", **fields})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"prompt_tokens": 256, "min_seconds": 3.0, "memory": False, "energy": "none"}, []),
        ({"enabled": False, "min_seconds": 3.0, "new_tokens": 1}, []),
        ({"new_tokens": 1}, ["timing.new_tokens=1: the time between tokens needs at least 2"]),
        (
            {"min_seconds": 3.0, "memory": False},
            [
                "timing.min_seconds=3.0: no effect, timing=quick times the strategies; use timing=llm_perf",
                "timing.memory=false: no effect, timing=quick times the strategies; use timing=llm_perf",
            ],
        ),
        ({"prompt_tokens": 8, "prompts": 5}, ["timing.prompts=5: no effect, timing.prompt_tokens says"]),
    ],
)
def test_rules(fields: dict[str, Any], expected: list[str]) -> None:
    found = [str(mistake) for mistake in timing_rules(timing(**fields))]
    assert len(found) == len(expected)
    assert all(text.startswith(line) for text, line in zip(found, expected, strict=True))


def test_only_transformers_runs_a_model_by_itself() -> None:
    vllm = Backend(name="vllm", kind="vllm")  # type: ignore[call-arg]
    (mistake,) = cost_of_a_model(timing(name="llm_perf", prompt_tokens=256), vllm)
    assert "timing=llm_perf: runs the model with transformers, which backend=vllm does not" in str(mistake)
    assert not list(cost_of_a_model(timing(), vllm))
