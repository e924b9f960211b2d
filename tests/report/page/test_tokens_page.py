from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from fake_points import HOSTILE, PROMPTS, write_point
from read_page import Page

from harness.report.page.shell import short
from harness.report.page.tokens_page import tokens_html
from harness.store.stored_point import StoredPoint


def written(stored: StoredPoint, **options: Any) -> Page:
    return Page(tokens_html(stored, "label", **options))


def about(value: float) -> Any:
    """As close as half precision comes."""
    return value if math.isinf(value) else pytest.approx(value, rel=1 / 2048, abs=1e-6, nan_ok=True)


def test_every_step_is_shown_as_it_is_stored(outputs: Path) -> None:
    stored = write_point(outputs, "p", PROMPTS, samples=2, tokens=12, k=4)
    seen = 0
    for prompt in written(stored).prompts:
        assert prompt["text"] == PROMPTS[prompt["id"]]
        for sample in prompt["samples"]:
            mine = [
                r
                for r in stored.rows("tokens")
                if (r["prompt_id"], r["sample"]) == (prompt["id"], sample["sample"])
            ]
            mine.sort(key=lambda row: row["position"])
            steps = prompt["steps"][0, sample["sample"]]
            assert steps["k"] == 4
            assert len(steps["token"]) == len(mine)
            for i, row in enumerate(mine):
                assert steps["token"][i] == (row["token_id"], row["token"])
                assert steps["rank"][i] == row["rank"]
                assert steps["kept"][i] == row["kept"]
                for name in ("logprob", "warped_logprob", "entropy", "warped_entropy"):
                    assert steps[name][i] == about(row[name])
                assert steps["removed_mass"][i] == about(1 - row["kept_mass"])
                tops = slice(4 * i, 4 * i + 4)
                assert steps["top_tokens"][tops] == list(zip(row["top_ids"], row["top_tokens"], strict=True))
                assert steps["top_logprobs"][tops] == [about(v) for v in row["top_logprobs"]]
                assert steps["top_warped_logprobs"][tops] == [about(v) for v in row["top_warped_logprobs"]]
            assert "".join(text for _, text in steps["token"]) == sample["text"]
            seen += len(mine)
    assert seen == stored.table("tokens").num_rows
    assert written(stored).data["notes"] == []


def test_hostile_texts_arrive_complete_and_only_as_data(outputs: Path) -> None:
    stored = write_point(outputs, "p", dict.fromkeys(HOSTILE), scores=True)
    page = Page(tokens_html(stored, "<script>alert(1)</script>"))
    assert page.tags.count("script") == 4
    assert "img" not in page.tags
    assert page.data["label"] == "<script>alert(1)</script>"
    assert {prompt["id"]: prompt["samples"][0]["text"] for prompt in page.prompts} == HOSTILE


def test_prompt_scores_are_shown_and_the_first_has_no_context(outputs: Path) -> None:
    stored = write_point(outputs, "p", {"a": "some words here"}, scores=True)
    scores = written(stored).prompts[0]["steps"][0, -1]
    assert "".join(text for _, text in scores["token"]) == "some words here"
    assert math.isnan(scores["logprob"][0])
    assert scores["rank"][0] == 0
    assert scores["k"] == 0
    assert all(math.isfinite(value) for value in scores["logprob"][1:])


def test_past_the_budget_the_first_prompts_keep_their_tokens(outputs: Path) -> None:
    stored = write_point(outputs, "p", {f"p{i:02d}": "x" for i in range(20)}, tokens=60)
    complete = len(tokens_html(stored, "label"))
    small = tokens_html(stored, "label", budget_mb=0.03)
    page = Page(small)
    with_steps = [bool(prompt["steps"]) for prompt in page.prompts]
    assert len(with_steps) == 20
    assert with_steps == sorted(with_steps, reverse=True)
    assert 0 < sum(with_steps) < 20
    assert (
        f"{20 - sum(with_steps)} of 20 prompts are shown without token probabilities" in page.data["notes"][0]
    )
    settings = page.data["settings"][1]
    assert len(page.scripts[3]) - settings <= 30_000
    assert len(small) < complete


def test_texts_that_do_not_fit_are_left_out_and_counted(outputs: Path) -> None:
    texts = {f"p{i:02d}": "".join(chr(65 + (i * j * 7919) % 57) for j in range(1000)) for i in range(20)}
    stored = write_point(outputs, "p", texts, tokens=5)
    page = written(stored, budget_mb=0.01)
    left = 20 - len(page.prompts)
    assert 0 < left < 20
    assert [prompt["id"] for prompt in page.prompts] == list(texts)[: 20 - left]
    assert any(f"{left} of 20 prompts are left out" in note for note in page.data["notes"])
    assert len(page.scripts[3]) - page.data["settings"][1] <= 10_000


def test_a_point_without_recorded_tokens_still_shows_its_texts(outputs: Path) -> None:
    stored = write_point(outputs, "p", {"a": "x"})
    stored.path("tokens.parquet").unlink()
    stored.path("metrics.json").unlink()
    page = written(stored)
    assert page.prompts[0]["steps"] == {}
    assert page.prompts[0]["samples"][0]["text"]
    assert "1 of 1 prompts are shown without token probabilities" in page.data["notes"][0]


def test_steps_that_lie_scattered_over_the_file_come_in_order(outputs: Path) -> None:
    import numpy as np
    import pyarrow.parquet as pq

    stored = write_point(outputs, "p", {"a": "x", "b": "y"}, samples=2, tokens=8)
    before = written(stored).prompts
    table = stored.table("tokens")
    order = np.random.default_rng(0).permutation(table.num_rows)
    pq.write_table(table.take(order), stored.path("tokens.parquet"), row_group_size=7)
    after = written(stored).prompts
    assert [p["id"] for p in after] == [p["id"] for p in before]
    for one, other in zip(before, after, strict=True):
        assert {key: steps["token"] for key, steps in one["steps"].items()} == {
            key: steps["token"] for key, steps in other["steps"].items()
        }


def test_samples_may_differ_in_how_many_alternatives_were_recorded(outputs: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored = write_point(outputs, "p", {"a": "x"}, tokens=4, k=3)
    rows = stored.rows("tokens")
    for name in ("top_ids", "top_tokens", "top_logprobs", "top_warped_logprobs"):
        rows[1][name] = rows[1][name][:1]
    pq.write_table(pa.Table.from_pylist(rows), stored.path("tokens.parquet"))
    steps = written(stored).prompts[0]["steps"][0, 0]
    assert steps["top_tokens"][3:6] == [(rows[1]["top_ids"][0], rows[1]["top_tokens"][0]), None, None]
    assert steps["top_tokens"][6] == (rows[2]["top_ids"][0], rows[2]["top_tokens"][0])


def test_short_keeps_four_digits_and_drops_what_is_not_finite() -> None:
    assert short(-1.234567) == -1.235
    assert short(0.0000123456) == 1.235e-05
    assert short(3.0) == 3
    assert isinstance(short(3.0), int)
    assert short(-math.inf) is None
    assert short(math.nan) is None
    assert short(None) is None
