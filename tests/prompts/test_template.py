"""Templates fill in fields and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.prompts.template import fill, parse_template


def test_fields_numbers_and_literal_braces() -> None:
    segments = parse_template("{{x}} {a}-{n} {b c}!")
    assert fill(segments, {"a": "{b}", "n": 1.5, "b c": "two words"}) == "{x} {b}-1.5 two words!"


@given(st.text(), st.text())
def test_values_are_taken_as_they_are(before: str, value: str) -> None:
    literal = before.replace("{", "{{").replace("}", "}}")
    assert fill(parse_template(literal + "{field}"), {"field": value}) == before + value


@pytest.mark.parametrize(
    "template", ["{a.__class__}", "{a[0]}", "{a!r}", "{a:>10}", "{}", "{ }", "{a", "a}", "{a:{b}}"]
)
def test_anything_but_a_name_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match=r"^prompts\.template: .*a field is \{name\}"):
        parse_template(template)


def test_a_missing_field_lists_the_fields_of_the_row() -> None:
    with pytest.raises(ValueError, match=r"names \{topic\}, which the row lacks; its fields are: id, title"):
        fill(parse_template("{topic}"), {"id": "a", "title": "b"})
    with pytest.raises(ValueError, match="neither text nor a number"):
        fill(parse_template("{t}"), {"t": ["a"]})
