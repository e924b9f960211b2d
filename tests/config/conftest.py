"""A plain config as Hydra would compose it, to change one thing in."""

import copy

import pytest

from harness.config.points import Composed

CHOICES = {
    "model": "fable_small",
    "quantization": "fp32",
    "cache": "default",
    "prompts": "custom",
    "decoding": "greedy",
    "timing": "quick",
    "tracking": "mlflow",
}
CONFIG = {
    "model": {"id": "fable_small"},
    "quantization": {"dtype": "float32"},
    "prompts": {"items": ["It was a dark and stormy"]},
    "decoding": {"do_sample": False},
    "generation": {},
    "engine": {},
    "cache": {},
    "record": {},
    "timing": {},
    "tracking": {},
    "compare": {},
    "drift": {},
}


@pytest.fixture
def composed():
    """`composed({"decoding.top_p": 0.9}, decoding="top_p")`: a Composed with some keys and choices set."""

    def make(values=None, custom=(), **choices):
        config = copy.deepcopy(CONFIG)
        for key, value in (values or {}).items():
            section, _, name = key.partition(".")
            config[section][name] = value
        return Composed(config, {**CHOICES, **choices}, frozenset(custom))

    return make


@pytest.fixture
def mistakes(composed):
    """`mistakes({"decoding.top_p": 2})`: the mistakes of a config with some keys set, one line each."""
    from harness.config.points import make_points
    from harness.errors import ConfigError

    def lines(values=None, **choices):
        try:
            make_points([composed(values, **choices)])
        except ConfigError as error:
            return [str(mistake) for mistake in error.mistakes]
        return []

    return lines
