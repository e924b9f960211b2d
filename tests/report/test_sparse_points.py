"""Reports of points whose backend left columns null."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
from read_page import Page
from rich.console import Console
from sparse_points import LOGPROBS, sparse_sweep, write_sparse_point

from harness.analysis.point_results import point_results
from harness.report import write
from harness.report.csv_files import summary_csv
from harness.report.page.compare_page import compare_html
from harness.report.page.tokens_page import tokens_html
from harness.report.terminal_table import sweep_table


def test_texts_without_tokens_are_shown(outputs: Path) -> None:
    page = Page(tokens_html(write_sparse_point(outputs, "p", logprobs=False), "label"))
    assert page.data["tokenColumns"] == []
    assert len(page.prompts) == 6
    for prompt in page.prompts:
        (sample,) = prompt["samples"]
        assert prompt["steps"] == {}
        assert prompt["promptTokens"] is None
        assert sample["text"].startswith("Once upon")
        assert [sample[name] for name in ("finish", "tokens", "logprob", "score")] == [None] * 4


def test_steps_have_the_columns_that_were_recorded(outputs: Path) -> None:
    page = Page(tokens_html(write_sparse_point(outputs, "p", logprobs=True), "label"))
    assert page.data["tokenColumns"] == ["logprob", "token"]
    assert page.data["notes"] == []
    for prompt in page.prompts:
        steps = prompt["steps"][0, 0]
        assert set(steps) == {"point", "sample", "steps", "columns", "k", "token", "logprob"}
        assert "".join(text for _, text in steps["token"]) == prompt["samples"][0]["text"]
        assert {token_id for token_id, _ in steps["token"]} == {None}
        assert steps["logprob"][:8] == list(LOGPROBS)


def test_a_sweep_of_such_points_is_reported(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = sparse_sweep(outputs)
    assert write(None) == 0
    printed = capsys.readouterr().out
    assert "nan" not in printed.lower()
    assert "6 unknown" in printed
    page = Page((sweep.folder / "compare.html").read_text())
    assert {"logprob", "warped_logprob", "entropy", "rank", "kept"} < set(page.data["tokenColumns"])
    for prompt in page.prompts:
        assert set(prompt["steps"]) == {(1, 0), (2, 0)}
    texts, logprobs, complete = page.data["points"]
    assert texts["entropy"] == logprobs["entropy"] == []
    assert complete["entropy"]
    assert "probability/mean_logprob" not in texts["cells"]
    for name in ("summary.csv", "comparison.csv"):
        rows = list(csv.reader(io.StringIO((sweep.folder / name).read_text())))
        assert not any(value.lower() == "nan" for row in rows for value in row)


def test_the_terminal_table_leaves_out_what_no_point_has(outputs: Path) -> None:
    points = point_results(sparse_sweep(outputs, complete=False))
    for width in (60, 100):
        console = Console(width=width, file=io.StringIO(), force_terminal=False)
        console.print(sweep_table(points, width))
        text = console.file.getvalue()
        assert "nan" not in text.lower()
        assert "TTFT" not in text
        assert "–" in text  # no mean logprob where only texts are known
        assert "6 unknown" in text or "?" in text
    assert "nan" not in summary_csv(points).lower()


def test_reading_goes_on_where_token_counts_are_not_known(outputs: Path) -> None:
    texts = {f"p{i:04d}": "x" for i in range(4_000)}
    stored = write_sparse_point(outputs, "p", logprobs=True, texts=texts)
    page = Page(tokens_html(stored, "label"))
    assert stored.table("tokens").num_rows > 2 * 16_384  # several batches
    assert all(len(prompt["steps"][0, 0]["token"]) == 9 for prompt in page.prompts)


def test_a_comparison_of_such_points_has_no_numbers_that_json_lacks(outputs: Path) -> None:
    sweep = sparse_sweep(outputs, complete=False)
    data = Page(compare_html(sweep, point_results(sweep))).data
    values = [v for point in data["points"] for cell in point["cells"].values() for v in cell[:3]]
    assert all(v is None or math.isfinite(v) for v in values)
