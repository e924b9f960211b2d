"""Texts of the environment become what a key takes, and give the point that the same value typed gives."""

import pytest

from harness.config import hydra_app as app
from harness.config.interpolated import converted
from harness.errors import ConfigError


@pytest.fixture
def point(monkeypatch, tmp_path):
    """`point("generation.seed=5", A="7")`: the point of a command with an environment."""
    monkeypatch.chdir(tmp_path)

    def of(*words, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return app.one_point(words)

    return of


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("choice", "key", "text", "value"),
    [
        ("decoding=greedy", "generation.seed", "5", 5),
        ("decoding=greedy", "generation.max_new_tokens", " 12", 12),
        ("decoding=greedy", "engine.threads", "2", 2),
        ("decoding=greedy", "engine.threads", "auto", "auto"),
        ("decoding=temperature", "decoding.temperature", "0.5", 0.5),
        ("decoding=temperature", "decoding.temperature", "2", 2.0),
        ("decoding=temperature", "decoding.temperature", "5e-1", 0.5),
        ("decoding=greedy", "generation.ignore_eos", "true", True),
        ("decoding=greedy", "generation.ignore_eos", "No", False),
        ("decoding=greedy", "generation.ignore_eos", "1", True),
        ("decoding=greedy", "prompts.chat", "false", False),
        ("decoding=greedy", "prompts.chat", "auto", "auto"),
        ("decoding=greedy", "model.revision", "5", "5"),
        ("decoding=greedy", "prompts.template", "1.5", "1.5"),
        ("decoding=beam", "decoding.early_stopping", "never", "never"),
        ("decoding=beam", "decoding.early_stopping", "true", True),
    ],
)
def test_a_text_becomes_what_the_key_takes(point, choice, key, text, value):
    found = point(choice, f"{key}=${{oc.env:TEXT}}", TEXT=text)
    section, _, name = key.partition(".")
    assert (type(getattr(getattr(found, section), name)), getattr(getattr(found, section), name)) == (
        type(value),
        value,
    )
    typed = f"'{value}'" if isinstance(value, str) else str(value).lower()
    assert found == point(choice, f"{key}={typed}")


def test_within_a_list_and_beside_what_is_typed(point):
    found = point(
        "decoding.suppress_tokens=['${oc.env:A}',7]", "generation.stop_strings=['${oc.env:A}']", A="5"
    )
    assert found.decoding.suppress_tokens == (5, 7)
    assert found.generation.stop_strings == ("5",)


def test_only_what_an_interpolation_gave_is_converted(point):
    for word in ("generation.seed='5'", "generation.ignore_eos='true'", "decoding.suppress_tokens=['5',7]"):
        with pytest.raises(ConfigError):
            point(word)
    assert converted("generation", "seed", "5", "5") == "5"
    assert converted("generation", "seed", "${oc.env:A}", "five") == "five"


def test_what_it_cannot_become_is_one_line(point):
    with pytest.raises(ConfigError, match=r"^generation\.seed=many: must be a whole number from 0$"):
        point("generation.seed=${oc.env:A}", A="many")
