"""Whether outputs are what they had to be: texts decided by hand."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
import pytest

from harness.analysis.metrics.structure_metrics import is_valid, log_weight
from harness.config.structure import Structure

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
SUM = 'start: term ("+" term)*\nterm: /[0-9]+/ | "(" start ")"'


def valid(output: str, name: Any, value: Any) -> bool:
    return is_valid(output, Structure(name, value if isinstance(value, str) else json.dumps(value))) == 1.0


@pytest.mark.parametrize(
    ("name", "value", "good", "bad"),
    [
        ("choices", [" yes", " no"], [" yes", " no"], ["yes", " ye", " yes ", ""]),
        ("regex", r"\d{2,3}(px)?", ["12", "123px"], ["1", "123p", "12 ", "1234"]),
        ("regex", r"[a-z--[aeiou]]+", ["bcd"], ["abc", "-"]),
    ],
)
def test_choices_and_expressions_need_no_extra(name: str, value: Any, good: Any, bad: Any) -> None:
    assert all(valid(output, name, value) for output in good)
    assert not any(valid(output, name, value) for output in bad)


def test_json_and_grammars() -> None:
    pytest.importorskip("llguidance")
    for good in ('{"name":"Ada","age":36}', json.dumps({"name": "é\n", "age": 0}, separators=(",", ":"))):
        assert valid(good, "json_schema", SCHEMA)
    for bad in ('{"name":"Ada","age":36', '{"name":"Ada"}', '{"name":"Ada","age":-1}', "null", "", "{} x"):
        assert not valid(bad, "json_schema", SCHEMA)
    for good in ("1", "1+22", "((1)+(2+3))"):
        assert valid(good, "grammar", SUM)
    for bad in ("", "1+", "(1", "1)", "a", "1+2é", "\ud800"):
        assert not valid(bad, "grammar", SUM)


def test_without_the_extra_a_grammar_cannot_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    monkeypatch.setattr("harness.analysis.metrics.structure_metrics.find_spec", lambda name: None)
    assert math.isnan(is_valid("1", Structure("grammar", SUM)))
    assert is_valid("{", Structure("json_schema", json.dumps(SCHEMA))) == 0.0


def test_the_log_weight_is_the_sum_over_the_steps() -> None:
    steps = {"allowed_logprob": np.log(np.array([0.5, 0.25, 1.0], np.float32))}
    assert log_weight(steps) == pytest.approx(math.log(0.125))
    assert math.isnan(log_weight({}))
    assert math.isnan(log_weight({"allowed_logprob": np.array([0.0, np.nan])}))
