from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fake_points import make_sweep, write_point
from read_page import Page

from harness.analysis.comparison import Cell, Comparison, Difference
from harness.analysis.metric_catalog import metric_of
from harness.analysis.point_results import point_results
from harness.errors import ConfigError
from harness.report import write, write_sweep_reports
from harness.report.csv_files import comparison_csv, summary_csv


def test_summary_holds_every_metric_of_every_point(outputs: Path) -> None:
    sweep = make_sweep(outputs, failed="top_p", tokens=5)
    sweep = sweep.with_point(0, varied={"generation.stop_strings": ["a", "b"], "decoding": "greedy"})
    rows = list(csv.DictReader(io.StringIO(summary_csv(point_results(sweep)))))
    assert [row["label"] for row in rows] == [point.label for point in sweep.points]
    assert rows[0]["generation.stop_strings"] == '["a", "b"]'
    for row, point in zip(rows, point_results(sweep), strict=True):
        assert row["status"] == point.point.status
        metrics = {key: float(row[key]) for key in row if "/" in key and row[key]}
        assert metrics == pytest.approx(dict(point.metrics))
    assert rows[1]["error"] == sweep.points[1].error


def test_comparison_csv_has_a_row_a_point_and_metric() -> None:
    metrics = tuple(map(metric_of, ("text/distinct_2", "memory/peak_mb")))
    difference = Difference(-0.1, -0.2, -0.05, 0.003, "lower", "worse", True, 40)
    cells = {
        'a "quoted", label': {"memory/peak_mb": Cell(5.0), "text/distinct_2": Cell(0.5, 0.4, 0.6)},
        "b": {"text/distinct_2": Cell(0.4, 0.3, 0.5, difference)},
    }
    text = comparison_csv(Comparison('a "quoted", label', metrics, cells))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["label"], row["metric"], row["value"]) for row in rows] == [
        ('a "quoted", label', "text/distinct_2", "0.5"),
        ('a "quoted", label', "memory/peak_mb", "5.0"),
        ("b", "text/distinct_2", "0.4"),
    ]
    assert rows[0]["baseline"] == rows[0]["p"] == ""
    last_cells = ["0.3", "0.5", 'a "quoted", label', "-0.1", "-0.2", "-0.05", "0.003"]
    assert list(rows[2].values())[3:] == [*last_cells, "lower", "worse", "yes", "40"]


def test_report_writes_everything_from_the_store_and_prints_the_table(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep(outputs, failed="top_p", tokens=5)
    assert write(None) == 0
    printed = capsys.readouterr().out
    assert "fable_tiny/greedy" in printed
    assert "compare.html" in printed
    pages = sorted((sweep.folder / "tokens").iterdir())
    assert len(pages) == 4
    assert (sweep.folder / "summary.csv").read_text().startswith("label,point_id,")
    compared = list(csv.DictReader(io.StringIO((sweep.folder / "comparison.csv").read_text())))
    assert {row["label"] for row in compared} == {p.label for p in sweep.points if p.status == "done"}
    assert {row["baseline"] for row in compared if row["difference"]} == {sweep.points[0].label}
    assert f"vs. {sweep.points[0].label}: " in printed
    page = Page((sweep.folder / "compare.html").read_text())
    assert [point["label"] for point in page.data["points"]] == [point.label for point in sweep.points]
    done = [index for index, point in enumerate(sweep.points) if point.status == "done"]
    for index in done:
        assert (sweep.folder / page.data["points"][index]["page"]).is_file()
    assert len(page.prompts) == 6
    assert all([sample["point"] for sample in prompt["samples"]] == done for prompt in page.prompts)


def test_report_finds_a_sweep_by_id_and_names_what_there_is(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=3)
    assert write(sweep.sweep_id[:6]) == 0
    with pytest.raises(ConfigError, match="no-such"):
        write("no-such")


def test_pages_are_kept_until_their_point_is_run_anew(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=3)
    write_sweep_reports(sweep)
    (page,) = (sweep.folder / "tokens").iterdir()
    page.write_text("kept")
    write_sweep_reports(sweep)
    assert page.read_text() == "kept"
    stored = write_point(outputs, sweep.points[0].point_id, {"other": "prompt"}, tokens=3)
    later = page.stat().st_mtime + 5
    os.utime(stored.path("metrics.json"), (later, later))
    write_sweep_reports(sweep)
    assert [prompt["id"] for prompt in Page(page.read_text()).prompts] == ["other"]


def test_a_point_whose_folder_is_gone_has_an_empty_row(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=3)
    gone = sweep.with_point(0, point_id="gone")
    points = point_results(gone)
    assert points[0].stored is None
    write_sweep_reports(gone)
    written = Page((sweep.folder / "compare.html").read_text())
    assert written.data["points"][0]["cells"] == {}
    assert not any(sample["point"] == 0 for prompt in written.prompts for sample in prompt["samples"])


def test_a_label_makes_a_file_name_inside_the_folder(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=3)
    hostile = replace(sweep, points=(replace(sweep.points[0], label="../../x/y\n\x00 " + "z" * 300),))
    write_sweep_reports(hostile)
    (page,) = (sweep.folder / "tokens").iterdir()
    assert page.parent == sweep.folder / "tokens"
    assert len(page.name) < 140


def test_reports_and_tracking_import_nothing_heavy() -> None:
    code = (
        "import sys, harness.report, harness.tracking, harness.tracking.sync, harness.cli.ui\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'pyarrow', 'pandas', 'scipy', 'sacrebleu'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
