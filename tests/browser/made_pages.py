"""Pages for the browser tests, made once."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from drifting_sweep import drifting_sweep
from fake_points import HOSTILE, PROMPTS, make_sweep, write_point
from made_comparison import made_up_comparison
from scored_sweep import scored_sweep
from sparse_points import sparse_sweep
from swept_sweep import swept_comparison, swept_sweep

from harness.analysis.compare_points import compare
from harness.analysis.comparison import Comparison
from harness.analysis.point_results import point_results
from harness.report.page.compare_page import compare_html
from harness.report.page.tokens_page import tokens_html
from harness.store.feedback import keep_feedback


def write_compare(folder: Path) -> Path:
    """compare.html of six points, two of them failed, with everything that a page may contain."""
    sweep = make_sweep(folder / "outputs", failed="top_p", tokens=30, samples=2)
    label = sweep.points[2].label
    expected = [
        SimpleNamespace(text="a met one", label=label, prompt_id="chat", passed=True, got=None),
        SimpleNamespace(text="<b>a missed one", label=label, prompt_id="chat", passed=False, got="<i>else"),
    ]
    feedback = [
        {
            "label": label,
            "prompt_id": "chat",
            "sample": 0,
            "name": "rating",
            "value": 4,
            "comment": "<u>good",
            "source": "<b>mia",
        }
    ]
    keep_feedback(sweep.folder, feedback)
    points = point_results(sweep)
    comparison = made_up_comparison(points)
    html = compare_html(sweep, points, comparison=comparison, expectations=expected, feedback=feedback)
    path = folder / "compare.html"
    path.write_text(html, encoding="utf-8")
    return path


def write_hostile(folder: Path) -> Path:
    """compare.html whose prompts, texts, labels and errors are all hostile."""
    texts = dict.fromkeys(HOSTILE)
    sweep = make_sweep(folder / "outputs", models=("m",), failed="top_p", texts=texts, scores=True)
    named = [HOSTILE["script"], HOSTILE["bidi"], HOSTILE["long"][:300]]
    points = tuple(
        replace(p, label=name, model=name, traceback=HOSTILE["control"], warnings=(HOSTILE["script"],))
        for p, name in zip(sweep.points, named, strict=True)
    )
    sweep = replace(sweep, name=HOSTILE["script"], points=points)
    found = point_results(sweep)
    path = folder / "hostile.html"
    path.write_text(compare_html(sweep, found, comparison=made_up_comparison(found)), encoding="utf-8")
    return path


NAMES_OF_OBJECTS = (
    "constructor",
    "__proto__",
    "toString",
    "hasOwnProperty",
    "valueOf",
    "then",
    "length",
    "0",
)
"""Names that every object of JavaScript has, or that its order depends on."""


def write_names_of_objects(folder: Path) -> Path:
    """compare.html whose prompts, models and settings are called as an object's own properties are."""
    texts = {name: f"It was {name}" for name in NAMES_OF_OBJECTS}
    sweep = make_sweep(folder / "outputs", models=("m",), texts=texts, scores=True, tokens=12)
    points = tuple(
        replace(p, label=name, model=name, decoding=name, varied={"model": name, name: name})
        for p, name in zip(sweep.points, NAMES_OF_OBJECTS, strict=False)
    )
    found = point_results(replace(sweep, points=points))
    compared = replace(made_up_comparison(found), self_bleu={})
    path = folder / "names.html"
    path.write_text(compare_html(replace(sweep, points=points), found, comparison=compared), encoding="utf-8")
    return path


def write_tokens(folder: Path) -> Path:
    """tokens.html of one point."""
    stored = write_point(folder / "outputs", "point", PROMPTS, scores=True, tokens=20)
    path = folder / "tokens.html"
    path.write_text(tokens_html(stored, "m/fp32/top_p"), encoding="utf-8")
    return path


def write_quantizations(folder: Path, hostile: bool = False, budget_mb: float = 20, tokens: int = 30) -> Path:
    """compare.html of three quantizations and three strategies; `hostile`: of hostile prompts and texts."""
    texts = dict.fromkeys(HOSTILE) if hostile else None
    sweep = drifting_sweep(folder / "outputs", texts, kl_error=0.002, tokens=tokens, samples=2)
    path = folder / "quantizations.html"
    path.write_text(compare_html(sweep, point_results(sweep), budget_mb=budget_mb), encoding="utf-8")
    return path


def write_scored(folder: Path, hostile: bool = False, goal: str | None = None) -> Path:
    """compare.html of prompts with references, chats among them; `hostile`: all of it hostile text."""
    sweep = replace(scored_sweep(folder / "outputs", hostile), compare={"goal": goal})
    points = point_results(sweep)
    path = folder / "scored.html"
    path.write_text(compare_html(sweep, points, comparison=compare(sweep, points)), encoding="utf-8")
    return path


def write_sparse(folder: Path, complete: bool = True) -> Path:
    """compare.html of points whose backends left columns null; `complete`: and one with all columns."""
    sweep = sparse_sweep(folder / "outputs", complete=complete)
    path = folder / "sparse.html"
    path.write_text(compare_html(sweep, point_results(sweep)), encoding="utf-8")
    return path


def write_swept(
    folder: Path, change: Callable[[Comparison], Comparison] = lambda compared: compared, **options: Any
) -> Path:
    """compare.html of a sweep over numbers, its comparison changed; `options` of `swept_sweep`."""
    sweep = swept_sweep(folder / "outputs", **options)
    points = point_results(sweep)
    path = folder / "swept.html"
    compared = change(swept_comparison(points))
    path.write_text(compare_html(sweep, points, comparison=compared), encoding="utf-8")
    return path


def undecided(compared: Comparison) -> Comparison:
    """Return a comparison in which no point is significantly worse than the best."""
    best = {key: replace(one, ties=one.ties + one.worse, worse=()) for key, one in compared.best.items()}
    assert compared.answer is not None
    answer = replace(compared.answer, ties=best[compared.answer.goal or ""].ties)
    return replace(compared, best=best, answer=answer)


CHART = """(id) => {
  const box = document.getElementById(`chart-${id}`);
  const columns = (source) => Object.fromEntries(Object.entries(source.data).map(([name, values]) =>
    [name, Array.from(values, (each) => (typeof each === "object" && each ? Array.from(each) : each))]));
  const figures = [...Bokeh.index.roots].filter((view) => box.contains(view.el))
    .flatMap((view) => [...view.model.references()].filter((model) => model.type === "Figure"));
  return figures.map((figure) => Object.fromEntries(
    figure.renderers.map((each) => [each.name, columns(each.data_source)])));
}"""


def plots_of(view: Any, chart: str) -> list[dict[str, dict[str, Any]]]:
    """Draw a chart of an open page; returns the columns of every plot in it, by the names of its glyphs."""
    view.locator(f"#chart-{chart}").scroll_into_view_if_needed()
    view.wait_for_selector(f"#chart-{chart}[data-drawn]")
    return view.evaluate(CHART, chart)


def rows_of(text: str) -> list[dict[str, str]]:
    """A CSV text as rows."""
    return list(csv.DictReader(io.StringIO(text)))
