"""A value of the wrong type or out of its range is a mistake that says what is accepted."""

import pytest

from harness.config.points import make_points
from harness.config.schema import section_fields, sections
from harness.config.validation import describe


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("decoding.top_p", 1.5, "decoding.top_p=1.5: must be at most 1"),
        ("decoding.top_p", 0, "decoding.top_p=0: must be above 0"),
        ("decoding.min_p", -1, "decoding.min_p=-1: must be at least 0"),
        ("decoding.num_beams", 0, "decoding.num_beams=0: must be at least 1"),
        ("decoding.num_beams", 2.5, "decoding.num_beams=2.5: must be a whole number from 1"),
        ("decoding.temperature", "hot", "decoding.temperature=hot: must be a number above 0"),
        ("decoding.temperature", -0.5, "decoding.temperature=-0.5: must be above 0"),
        ("decoding.temperature", float("inf"), "decoding.temperature=Infinity: must be a finite number"),
        ("decoding.top_p", float("nan"), "decoding.top_p=NaN: must be"),
        ("decoding.do_sample", "yes", "decoding.do_sample=yes: must be true or false"),
        ("decoding.do_sample", 1, "decoding.do_sample=1: must be true or false"),
        ("decoding.early_stopping", "sometimes", "early_stopping=sometimes: must be true, false or never"),
        ("decoding.bad_words_ids", [1, 2], "decoding.bad_words_ids=[1, 2]: must be a list, each a list"),
        ("engine.batch_rows", "many", "engine.batch_rows=many: must be auto or a whole number from 1"),
        ("engine.batch_rows", 0, "engine.batch_rows=0: must be auto or a whole number from 1"),
        ("quantization.dtype", "float8", "must be checkpoint, float32, bfloat16 or float16"),
        ("prompts.chat", "maybe", "prompts.chat=maybe: must be auto, true or false"),
        ("prompts.items", "one", "prompts.items=one: must be a list, each text or a mapping"),
        ("prompts.items", [3], "prompts.items=[3]: must be a list, each text or a mapping"),
        ("model.revision", 123, "model.revision=123: must be text; quote it: \"model.revision='123'\""),
        ("generation.max_new_tokens", None, "generation.max_new_tokens=null: must be a whole number from 1"),
        ("generation.seed", True, "generation.seed=true: must be a whole number from 0"),
    ],
)
def test_a_wrong_value_is_one_line(mistakes, key, value, line):
    lines = mistakes({"decoding.do_sample": True, key: value})
    assert len(lines) == 1
    assert line in lines[0]
    assert "\n" not in lines[0]


def test_temperature_zero_is_greedy(mistakes):
    for zero in (0, 0.0):
        (line,) = mistakes({"decoding.do_sample": True, "decoding.temperature": zero})
        assert "use decoding=greedy" in line


def test_a_model_without_an_id_must_be_given_one(mistakes):
    assert mistakes({"model.id": "???"}, model="custom") == [
        "model.id: must be given: model.id=HUB-ID-OR-FOLDER"
    ]


def test_all_mistakes_are_found_at_once(mistakes):
    lines = mistakes(
        {"decoding.top_p": 2, "decoding.top_k": "x", "generation.samples": 0, "record.top_k": -1}
    )
    assert len(lines) == 4


def test_an_integer_is_good_for_a_float_and_becomes_one(composed):
    (point,) = make_points([composed({"decoding.do_sample": True, "decoding.temperature": 2})])
    assert type(point.decoding.temperature) is float
    assert point.decoding.temperature == 2.0


def test_lists_become_tuples_and_rows_stay_as_they_are(composed):
    row = {"id": "a", "messages": [{"role": "user", "content": "hi"}]}
    (point,) = make_points([composed({"prompts.items": [row, "two"], "generation.stop_strings": ["."]})])
    assert point.prompts.items == (row, "two")
    assert point.generation.stop_strings == (".",)


def test_every_key_can_be_described():
    for section in sections():
        for key in section_fields(section):
            words = describe(section, key)
            assert words
            assert "something else" not in words


@pytest.mark.parametrize(
    ("key", "value", "most"),
    [
        ("generation.seed", 2**63, "must be at most 9223372036854775807"),
        ("generation.seed", 10**30, "must be at most 9223372036854775807"),
        ("generation.samples", 10**9, "must be at most 100000"),
        ("prompts.limit", 2**63, "must be at most 2147483647"),
        ("engine.threads", 100_000, "must be auto or a whole number from 1 and at most 1024"),
        ("engine.batch_rows", 2**31, "must be auto or a whole number from 1 and at most 2147483647"),
        ("decoding.num_beams", 100_000, "must be at most 1024"),
        ("decoding.no_repeat_ngram_size", 10**9, "must be at most 1024"),
        ("decoding.length_penalty", 1e308, "must be at most 5"),
        ("decoding.length_penalty", -1e308, "must be at least -5"),
        ("decoding.temperature", 1e-320, "its size must be from 1e-15 to 1e15"),
        ("decoding.repetition_penalty", 1e308, "its size must be from 1e-15 to 1e15"),
        ("compare.budget_mb", 1e308, "its size must be from 1e-15 to 1e15"),
        ("drift.budget_mb", 1e-320, "its size must be from 1e-15 to 1e15"),
        ("decoding.suppress_tokens", [2**31], "each a whole number from 0 and at most 2147483647"),
        ("prompts.items", ["\ud800"], "contains bytes that are not UTF-8"),
        ("tracking.experiment", "", "must be a name of 1 to 500 characters"),
        ("tracking.experiment", "x" * 501, "must be a name of 1 to 500 characters"),
    ],
)
def test_a_value_that_only_a_run_would_fail_on_is_out_of_range(mistakes, key, value, most):
    (line,) = mistakes({"decoding.do_sample": True, "decoding.num_beams": 2, key: value})
    assert line.startswith(key)
    assert most in line


def test_every_number_has_bounds(mistakes):
    """No field of a number takes whatever Python can hold."""
    found = 0
    for section, model in sections().items():
        for key, schema in model.model_json_schema()["properties"].items():
            kinds = {one.get("type") for one in schema.get("anyOf", [schema])}
            for kind, value in (("integer", 10**40), ("number", 1e300), ("number", -1e300)):
                if kind in kinds and section in (
                    "decoding",
                    "generation",
                    "engine",
                    "record",
                    "timing",
                    "compare",
                ):
                    found += 1
                    lines = mistakes({"decoding.do_sample": True, f"{section}.{key}": value})
                    assert any(line.startswith(f"{section}.{key}=") for line in lines), (section, key, value)
    assert found > 30
