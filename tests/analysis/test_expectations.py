"""Each kind of expectation, seen and missed, at points whose every value was written down by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_points import write_table

from harness.analysis.expectations import CheckedExpectation, check_expectations, check_summary, top_agrees
from harness.config.expectation import Expectation
from harness.store.sweeps import Sweep, SweepPoint, load_sweep

NIGHT = " night. The sky was dark and the wind was howling."
LAST_BUT_ONE, LAST = "after …'the wind was howling'", "after …'he wind was howling.'"
EVENING = " evening.\nRain fell \u202e\x07"
TOP = [(" night", 0.88), (" evening", 0.07), ("night", 0.03), (" Night", 0.01)]


def row(prompt: str, sample: int, position: int, token: int) -> dict[str, Any]:
    return {
        "prompt_id": prompt,
        "sample": sample,
        "position": position,
        "token_id": token,
        "top_tokens": [token for token, _ in TOP],
        "top_logprobs": [math.log(probability) for _, probability in TOP],
    }


@pytest.fixture
def folder(outputs: Path) -> Path:
    """A point with two prompts: `stormy` of ids 5 6 7, with two samples, and `other` of ids 5 9."""
    folder = outputs / "points" / "abc"
    folder.mkdir(parents=True)
    texts = {("stormy", 0): NIGHT, ("stormy", 1): EVENING, ("other", 0): "", ("other", 1): "b"}
    ids = {("stormy", 0): [11, 12, 13], ("stormy", 1): [21], ("other", 0): [2], ("other", 1): [31, 2]}
    write_table(
        [{"prompt_id": p, "sample": s, "output": text} for (p, s), text in texts.items()],
        folder / "generations.parquet",
    )
    write_table(
        [row(p, s, place, token) for (p, s), tokens in ids.items() for place, token in enumerate(tokens)],
        folder / "tokens.parquet",
    )
    write_table(
        [
            {"prompt_id": prompt, "position": place, "token_id": token}
            for prompt, tokens in {"stormy": [5, 6, 7], "other": [5, 9]}.items()
            for place, token in enumerate(tokens)
        ],
        folder / "prompt_tokens.parquet",
    )
    metrics = {"metrics": {"text/distinct_2": 0.75, "probability/mean_logprob": -0.5}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture
def check(folder: Path, outputs: Path) -> Any:
    """`check({...}, {...})`: the check of these entries, through a plan.json."""

    def check(*entries: Mapping[str, Any], **facts: Any) -> tuple[CheckedExpectation, ...]:
        expect = [Expectation(**entry).model_dump(mode="json", exclude_none=True) for entry in entries]
        facts = {"label": "m/fp32/greedy", "point_id": "abc", "status": "done"} | facts
        point = SweepPoint(model="m", quantization="fp32", prompts="p", decoding="greedy", **facts)
        sweep = Sweep("s", "id", outputs / "sweeps" / "s-id", {}, (point,), 0.0, expect=tuple(expect))
        sweep.save()
        return check_expectations(load_sweep(sweep.folder))

    return check


TOP_TWO = {"night": 0.88, "evening": 0.07}


@pytest.mark.parametrize(
    ("entry", "text", "got"),
    [
        ({"output": NIGHT}, f"output '{NIGHT}'", f"'{NIGHT}'"),
        ({"output_start": " night. The"}, "output start ' night. The'", f"'{NIGHT}'"),
        ({"output_ids": (11, 12, 13)}, "output ids 11 12 13", "11 12 13"),
        ({"prompt_ids": (5, 6, 7)}, "prompt ids 5 6 7", "5 6 7"),
        ({"prompt_ids_start": (5, 6)}, "prompt ids start 5 6", "5 6 7"),
        ({"sample": 1, "output_ids": (21,)}, "output ids 21 of sample 1", "21"),
        (
            {"sample": 1, "output": EVENING},
            r"output ' evening.\nRain fell \u202e\x07' of sample 1",
            r"' evening.\nRain fell \u202e\x07'",
        ),
        (
            {"top": TOP_TWO, "tolerance": 0.0},
            "top 'night' 0.88, 'evening' 0.07 (within 0) at position 0",
            "'night' 0.8800, 'evening' 0.0700",
        ),
        (
            {"top": {" evening ": 0.08}, "tolerance": 0.82, "position": 2},
            "top ' evening ' 0.08 (within 0.82) at position 2",
            "' evening ' 0.0700",
        ),
    ],
)
def test_what_was_expected_is_seen(check: Any, entry: dict[str, Any], text: str, got: str) -> None:
    (one,) = check({"prompt": "stormy", **entry})
    assert one == CheckedExpectation("m/fp32/greedy", "stormy", text, True, got)


@pytest.mark.parametrize(
    ("entry", "got"),
    [
        (
            {"output": " night. The sky was grey."},
            "'dark and the wind was howling.' where 'grey.' was expected, "
            "at character 20, after ' night. The sky was '",
        ),
        ({"output": NIGHT[:-1]}, f"'.' where the end was expected, at character 49, {LAST_BUT_ONE}"),
        ({"output": NIGHT + "!"}, f"the end where '!' was expected, at character 50, {LAST}"),
        ({"output_start": "Night"}, f"'{NIGHT[:40]}'… where 'Night' was expected, at character 0"),
        ({"output_start": NIGHT + "!"}, f"the end where '!' was expected, at character 50, {LAST}"),
        ({"output_ids": (11, 14)}, "12 13 where 14 was expected, at token 1, after 11"),
        ({"output_ids": ()}, "11 12 13 where the end was expected, at token 0"),
        ({"prompt_ids": (5, 6)}, "7 where the end was expected, at token 2, after 5 6"),
        ({"prompt_ids_start": (5, 6, 7, 8)}, "the end where 8 was expected, at token 3, after 5 6 7"),
        ({"top": {"night": 0.8}}, "'night' 0.8800 (off by 0.0800)"),
        ({"top": {"day": 0.0, "night": 0.88}}, "'day' not among the 4 recorded, 'night' 0.8800, "
                                               "' evening' 0.0700 not expected, 'night' 0.0300 not expected, "
                                               "' Night' 0.0100 not expected"),
        ({"top": {"evening": 0.07}}, "'evening' 0.0700, ' night' 0.8800 not expected"),
        ({"top": {"night": 0.88}, "position": 3}, "nothing, the text ended before position 3"),
        ({"top": {"night": 0.88}, "sample": 2}, "nothing, there is no sample 2"),
        ({"output": "x", "sample": 2}, "nothing, there is no sample 2"),
        ({"output_ids": (1,), "sample": 2}, "nothing, there is no sample 2"),
    ],
)  # fmt: skip
def test_what_was_expected_is_missed(check: Any, entry: dict[str, Any], got: str) -> None:
    (one,) = check({"prompt": "stormy", **entry})
    assert (one.passed, one.got) == (False, got)


@pytest.mark.parametrize(
    ("recorded", "tolerance", "passed"),
    [
        ([("a", 0.6), ("b", 0.3)], 0.0, True),
        ([("a", 0.605), ("b", 0.295)], 0.005, True),
        ([("a", 0.606), ("b", 0.294)], 0.005, False),
        ([("b", 0.32), ("a", 0.58), ("c", 0.32)], 0.02, True),
        ([("a", 0.6), ("c", 0.33), ("b", 0.3)], 0.02, False),
        ([("a", 0.6), ("c", 0.33), ("b", 0.3)], 0.03, True),
    ],
)
def test_the_bounds_of_top(recorded: Sequence[tuple[str, float]], tolerance: float, passed: bool) -> None:
    assert top_agrees({"a": 0.6, "b": 0.3}, recorded, tolerance)[0] is passed


def test_a_token_with_its_spaces_right_is_taken_before_one_without(check: Any) -> None:
    night, exact = {"night": 0.03, " night": 0.88, "evening": 0.07}, {"tolerance": 0.0}
    (one,) = check({"prompt": "stormy", "top": night, **exact})
    assert (one.passed, one.got) == (True, "'night' 0.0300, ' night' 0.8800, 'evening' 0.0700")


@pytest.mark.parametrize(
    ("entry", "text", "passed", "got"),
    [
        ({"metric": "text/distinct_2", "min": 0.75}, "text/distinct_2 at least 0.75", True, "0.75"),
        ({"metric": "text/distinct_2", "max": 0.5}, "text/distinct_2 at most 0.5", False, "0.75"),
        (
            {"metric": "probability/mean_logprob", "min": -1.0, "max": -0.6},
            "probability/mean_logprob at least -1 and at most -0.6",
            False,
            "-0.5",
        ),
        (
            {"metric": "text/distinct2", "max": 1.0},
            "text/distinct2 at most 1",
            False,
            "nothing, the point has no such metric; did you mean text/distinct_2?",
        ),
    ],
)
def test_a_metric_is_of_the_whole_point(
    check: Any, entry: dict[str, Any], text: str, passed: bool, got: str
) -> None:
    assert check(entry) == (CheckedExpectation("m/fp32/greedy", None, text, passed, got),)


def test_each_thing_asked_is_checked_at_each_prompt(check: Any) -> None:
    checked = check(
        {"output_start": "", "prompt_ids_start": (5,)},
        {"point": "*/greedy", "prompt": "other", "output": "", "metric": "text/distinct_2", "min": 0.0},
        {"point": "*/top_p", "output": "of no point here"},
        {"prompt": "a prompt of other points", "output": "x"},
    )
    assert [(one.prompt_id, one.text.partition(" ")[0]) for one in checked] == [
        ("stormy", "prompt"), ("other", "prompt"), ("stormy", "output"), ("other", "output"),
        ("other", "output"), (None, "text/distinct_2"),
    ]  # fmt: skip
    assert check_summary(checked) == "6 passed"
    assert check_summary(check({"output": ""})) == "1 of 2 missed"
    assert check() == ()


@pytest.mark.parametrize(
    ("facts", "got"),
    [
        ({"status": "failed", "error": "ValueError: no"}, "nothing, the point failed: ValueError: no"),
        ({"status": "interrupted"}, "nothing, the point was not run"),
        ({"status": "planned", "point_id": ""}, "nothing, the point was not run"),
        ({"point_id": "gone"}, "nothing, the point is no longer in the store"),
    ],
)
def test_a_point_that_is_not_there_misses_everything(check: Any, facts: dict[str, Any], got: str) -> None:
    checked = check({"prompt": "stormy", "output": NIGHT, "metric": "text/distinct_2", "max": 1.0}, **facts)
    assert [(one.prompt_id, one.passed, one.got) for one in checked] == [
        ("stormy", False, got),
        (None, False, got),
    ]


def test_what_was_not_recorded_is_missed_with_the_reason(check: Any, folder: Path) -> None:
    (folder / "prompt_tokens.parquet").unlink()
    (folder / "metrics.json").unlink()
    ids, metric = check(
        {"prompt": "stormy", "prompt_ids": (5, 6, 7)}, {"metric": "text/distinct_2", "min": 0.0}
    )
    assert ids.line == (
        "stormy: expected prompt ids 5 6 7; got nothing, the prompt's ids were not recorded; "
        "record.prompt_logprobs=true records them"
    )
    assert metric.got == "nothing, the point has no such metric"


def test_long_texts_and_lists_stay_on_a_line(check: Any) -> None:
    text, ids = "word " * 1000, tuple(range(1000))
    for one in check({"prompt": "stormy", "output": text}, {"prompt": "stormy", "output_ids": ids}):
        assert not one.passed
        assert len(one.line) < 300
        assert "…" in one.line


def test_a_backend_that_reports_texts_only(check: Any, folder: Path) -> None:
    empty = {"token_id": pa.int64(), "position": pa.int64(), "top_tokens": pa.list_(pa.string())}
    schema = pa.schema({"prompt_id": pa.string(), "sample": pa.int64(), **empty})
    schema = schema.append(pa.field("top_logprobs", pa.list_(pa.float64())))
    pq.write_table(schema.empty_table(), folder / "tokens.parquet")
    text, ids, top = check(
        {"prompt": "stormy", "output": NIGHT},
        {"prompt": "stormy", "output_ids": (11,)},
        {"prompt": "stormy", "top": {"night": 0.8}},
    )
    assert text.passed
    assert (ids.passed, ids.got) == (False, "nothing, the output's token ids were not recorded")
    assert (top.passed, top.got) == (False, "nothing, the alternatives at this step were not recorded")


def test_a_backend_that_reports_token_and_logprob_only(check: Any, folder: Path) -> None:
    table = pq.read_table(folder / "tokens.parquet")
    for name in ("token_id", "top_tokens", "top_logprobs"):
        index = table.column_names.index(name)
        table = table.set_column(index, name, pa.nulls(len(table), table.schema.field(name).type))
    pq.write_table(table, folder / "tokens.parquet")
    ids, top, late = check(
        {"prompt": "stormy", "output_ids": (11,)},
        {"prompt": "stormy", "top": {"night": 0.8}},
        {"prompt": "stormy", "top": {"night": 0.8}, "position": 3},
    )
    assert ids.got == "nothing, the output's token ids were not recorded"
    assert top.got == "nothing, the alternatives at this step were not recorded"
    assert late.got == "nothing, the text ended before position 3"
