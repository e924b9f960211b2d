from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from fake_points import HOSTILE, PROMPTS, write_point
from pages import Page

from harness.report.token_data import PageData, Vocabulary, short
from harness.report.tokens_html import tokens_html
from harness.results.store import StoredPoint


def data_of(stored: StoredPoint, **options: Any) -> dict[str, Any]:
    return Page(tokens_html(stored, "label", **options)).data


def rounded(value: float) -> float | None:
    return None if not math.isfinite(value) else pytest.approx(value, rel=1e-3, abs=1e-9)


def test_every_step_is_told_as_it_is_stored(outputs: Path) -> None:
    stored = write_point(outputs, "p", PROMPTS, samples=2, tokens=12, k=4)
    data = data_of(stored)
    vocab = data["vocab"]
    seen = 0
    for prompt in data["prompts"]:
        assert prompt["text"] == PROMPTS[prompt["id"]]
        for sample in prompt["samples"]:
            mine = [
                r
                for r in stored.rows("tokens")
                if (r["prompt_id"], r["sample"]) == (prompt["id"], sample["n"])
            ]
            mine.sort(key=lambda row: row["position"])
            steps = sample["steps"]
            assert steps["k"] == 4
            for i, row in enumerate(mine):
                assert vocab[steps["t"][i]] == row["token"]
                assert steps["id"][i] == row["token_id"]
                assert steps["rank"][i] == row["rank"]
                assert steps["kept"][i] == row["kept"]
                told = {"lp": "logprob", "wlp": "warped_logprob", "ent": "entropy", "went": "warped_entropy"}
                for name, column in {**told, "mass": "kept_mass"}.items():
                    assert steps[name][i] == rounded(row[column])
                tops = slice(4 * i, 4 * i + 4)
                assert steps["ti"][tops] == row["top_ids"]
                assert [vocab[place] for place in steps["tt"][tops]] == row["top_tokens"]
                assert steps["tlp"][tops] == [rounded(v) for v in row["top_logprobs"]]
                assert steps["twlp"][tops] == [rounded(v) for v in row["top_warped_logprobs"]]
            assert "".join(vocab[place] for place in steps["t"]) == sample["text"]
            seen += len(mine)
    assert seen == stored.table("tokens").num_rows
    assert data["note"] == ""


def test_hostile_texts_arrive_whole_and_only_as_data(outputs: Path) -> None:
    stored = write_point(outputs, "p", dict.fromkeys(HOSTILE), scores=True)
    written = Page(tokens_html(stored, "<script>alert(1)</script>"))
    assert written.tags.count("script") == 2
    assert "img" not in written.tags
    assert written.data["label"] == "<script>alert(1)</script>"
    texts = {prompt["id"]: prompt["samples"][0]["text"] for prompt in written.data["prompts"]}
    assert texts == HOSTILE


def test_prompt_scores_are_told_and_the_first_has_no_context(outputs: Path) -> None:
    stored = write_point(outputs, "p", {"a": "some words here"}, scores=True)
    data = data_of(stored)
    scores = data["prompts"][0]["scores"]
    assert "".join(data["vocab"][place] for place in scores["t"]) == "some words here"
    assert scores["lp"][0] is None
    assert scores["rank"][0] == 0
    assert all(lp is not None for lp in scores["lp"][1:])


def test_past_the_budget_the_first_prompts_keep_their_tokens(outputs: Path) -> None:
    stored = write_point(outputs, "p", {f"p{i}": "x" for i in range(20)}, tokens=60)
    whole = len(tokens_html(stored, "label"))
    small = tokens_html(stored, "label", budget_mb=0.08)
    data = Page(small).data
    with_steps = ["steps" in prompt["samples"][0] for prompt in data["prompts"]]
    assert len(with_steps) == 20
    assert with_steps == sorted(with_steps, reverse=True)
    assert 0 < sum(with_steps) < 20
    assert f"{20 - sum(with_steps)} of 20 texts are shown without their tokens" in data["note"]
    frame = len(tokens_html(stored, "label", budget_mb=0))
    assert len(small) - frame <= 80_000
    assert len(small) < whole


def test_texts_that_do_not_fit_are_left_out_and_counted(outputs: Path) -> None:
    stored = write_point(outputs, "p", {f"p{i}": "x" * 1000 for i in range(20)}, tokens=5)
    data = data_of(stored, budget_mb=0.01)
    left = 20 - len(data["prompts"])
    assert 0 < left < 20
    assert f"{left} texts are left out" in data["note"]


def test_a_point_without_recorded_tokens_still_shows_its_texts(outputs: Path) -> None:
    stored = write_point(outputs, "p", {"a": "x"})
    stored.path("tokens.parquet").unlink()
    stored.path("metrics.json").unlink()
    data = data_of(stored)
    assert "steps" not in data["prompts"][0]["samples"][0]
    assert "1 of 1 texts are shown without their tokens" in data["note"]


def test_short_keeps_four_digits_and_drops_what_is_not_finite() -> None:
    assert short(-1.234567) == -1.235
    assert short(0.0000123456) == 1.235e-05
    assert short(3.0) == 3
    assert isinstance(short(3.0), int)
    assert short(-math.inf) is None
    assert short(math.nan) is None
    assert short(None) is None


def test_vocabulary_keeps_each_string_once_and_forgets_the_last() -> None:
    vocabulary = Vocabulary()
    assert [vocabulary(text) for text in ("a", "b", "a", None, "")] == [0, 1, 0, 2, 2]
    vocabulary.forget(1)
    assert vocabulary.strings == ["a"]
    assert [vocabulary(text) for text in ("b", "a")] == [1, 0]


def test_points_of_one_page_share_what_it_holds(outputs: Path) -> None:
    collected = PageData(0.2)
    for name in ("p", "q"):
        collected.prompts(write_point(outputs, name, PROMPTS, tokens=200), budget=100_000)
    assert collected.samples == 2 * len(PROMPTS)
    assert 0 < collected.without_tokens < collected.samples
    assert collected.left >= 0
