"""Metrics of structured outputs: is an output what it had to be, and how much did the grammar remove?"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from harness.config.structure import Structure, byte_matcher


def is_valid(output: str, structure: Structure) -> float:
    """Return 1 if an output is complete and what it had to be, else 0; NaN where nothing can check it.

    It is read as a text, whatever the tokens were: JSON by Python and jsonschema, an expression by `regex`.
    A grammar, an expression that `regex` does not know, and a schema where jsonschema is not installed are
    checked byte by byte by llguidance.
    """
    if structure.name == "choices":
        return float(output in json.loads(structure.text))
    if structure.name == "regex" and (pattern := _pattern(structure.text)) is not None:
        return float(pattern.fullmatch(output) is not None)
    if structure.name == "json_schema":
        try:
            value = json.loads(output)
        except (ValueError, RecursionError):
            return 0.0
        if (validator := _validator(structure.text)) is not None:
            return float(validator.is_valid(value))
        # llguidance wants a text in one of several ways of writing it
        written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return max(_by_bytes(output, structure), _by_bytes(written, structure))
    return _by_bytes(output, structure)


def log_weight(steps: Mapping[str, np.ndarray]) -> float:
    """Return the sum over steps of the log of the raw probability that the grammar left; NaN if unknown.

    Texts of temperature 1 with this as their log importance weight are texts of the model given that they
    are what they must be (Lew et al. 2023, arXiv:2306.03081).
    """
    logprobs = np.asarray(steps.get("allowed_logprob", ()), np.float64)
    return float(logprobs.sum()) if len(logprobs) else math.nan


def _by_bytes(output: str, structure: Structure) -> float:
    if find_spec("llguidance") is None:
        return math.nan
    matcher = byte_matcher(structure)
    data = list(output.encode("utf-8", "surrogatepass"))
    return float(bool(matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()))


@lru_cache(maxsize=64)
def _pattern(expression: str) -> Any:
    """Return a compiled expression; None where `regex` reads it otherwise than llguidance, or not at all."""
    import regex

    try:
        return regex.compile(expression, regex.VERSION1)
    except regex.error:
        return None


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    """Return the validator of a schema; None where jsonschema is not installed."""
    if find_spec("jsonschema") is None:
        return None
    from jsonschema.validators import validator_for

    content = json.loads(schema)
    return validator_for(content)(content)
