"""What the charts over swept numbers show: the points of a curve, the cells of a heat map, its outline."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_points import HOSTILE
from swept_sweep import chrf

sys.path.append(str(Path(__file__).parent))

from made_pages import plots_of, undecided, write_swept

from harness.analysis.comparison import Comparison

DESKTOP, PHONE = (1440, 900), (390, 844)
T, P = "decoding.temperature", "decoding.top_p"
TEMPERATURES = (0.3, 0.5, 0.7, 0.9, 1.2)
GRID = {T: (0.4, 0.7, 1.0, 1.3), P: (0.8, 0.9, 0.95)}
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curves")
    return write_swept(
        folder, decodings=("greedy", "top_p", "min_p"), keys={T: TEMPERATURES}, unswept=("greedy",)
    )


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_swept(tmp_path_factory.mktemp("grid"), decodings=("top_p",), keys=GRID)


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("greedy", "temperature", "top_k", "top_p", "min_p", "typical", "eta", "beam")
    return write_swept(tmp_path_factory.mktemp("eight"), decodings=names, quantizations=("fp32", "bnb_nf4"))


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = tuple(f"s{i}" for i in range(12))
    return write_swept(tmp_path_factory.mktemp("twelve"), decodings=names, keys={T: (0.5, 1.0)})


def test_a_curve_has_the_value_of_every_run_its_band_and_the_best_value(
    curves: Path, open_page: Open
) -> None:
    view = open_page(curves).view
    (plot,) = plots_of(view, "curve-0-0")
    lines = plot["lines"]
    assert lines["x"] == [list(TEMPERATURES)] * 2
    for strategy, ys in zip(("top_p", "min_p"), lines["y"], strict=True):
        assert ys == pytest.approx([chrf("fp32", strategy, {T: value}) for value in TEMPERATURES])
    assert len(set(lines["colour"])) == 2
    bands = plot["bands"]
    low = [chrf("fp32", "top_p", {T: value}) - 1.5 for value in TEMPERATURES]
    high = [chrf("fp32", "top_p", {T: value}) + 1.5 for value in TEMPERATURES]
    assert bands["y"][0] == pytest.approx([*low, *reversed(high)], rel=1e-3)
    assert bands["colour"] == lines["colour"]
    assert plot["best"]["x"] == [0.7]
    assert (plot["plateau"]["left"][0], plot["plateau"]["right"][0]) == pytest.approx((0.4775, 0.7225))
    assert len(plot["marks"]["name"]) == 10
    assert "Best at 0.7; no significant difference within 0.5 to 0.7." in view.text_content(
        "#curves .caption"
    )
    assert plot["levels"]["y"] == [[chrf("fp32", "greedy", {})] * 2], "greedy has no temperature"
    legend = view.text_content("#curves .chart-legend")
    assert legend == "Strategygreedytop_pmin_p"


def test_the_goal_comes_first_and_metrics_can_be_chosen(curves: Path, open_page: Open) -> None:
    page = open_page(curves)
    view = page.view
    view.wait_for_selector("#curves select")
    chosen = "() => [...document.querySelectorAll('#curves select')].map((each) => each.value)"
    first = view.evaluate(chosen)
    assert first[0] == "reference/chrf"
    assert len(first) == 4
    view.locator("#curves select").nth(1).select_option("text/repeated_4")
    assert view.evaluate(chosen) == [first[0], "text/repeated_4", *first[2:]]
    (plot,) = plots_of(view, "curve-0-1")
    assert plot["lines"]["y"][0] == pytest.approx([0.4 - 0.2 * value for value in TEMPERATURES])
    again = open_page(curves, view.evaluate("() => location.hash")).view
    again.wait_for_selector("#curves select")
    assert again.evaluate(chosen) == view.evaluate(chosen)


def test_in_a_grid_the_other_number_is_a_sequential_scale(grid: Path, open_page: Open) -> None:
    view = open_page(grid).view
    (plot,) = plots_of(view, "curve-0-0")
    assert len(plot["lines"]["y"]) == 3, "a line for each top_p"
    lightness = [sum(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in plot["lines"]["colour"]]
    assert lightness == sorted(lightness, reverse=True)
    assert view.locator("#curves .chart-legend .scale").count() == 2
    (plot,) = plots_of(view, "curve-1-0")
    assert [len(xs) for xs in plot["lines"]["x"]] == [3] * 4, "over top_p, a line for each temperature"


def test_a_heat_map_has_all_values_and_outlines_the_best_region(grid: Path, open_page: Open) -> None:
    view = open_page(grid).view
    view.wait_for_selector("#heat td")
    rows = view.locator("#heat tbody tr")
    assert rows.locator("th").all_text_contents() == ["0.95", "0.9", "0.8"]
    assert view.locator("#heat tfoot th[scope]").all_text_contents() == ["0.4", "0.7", "1", "1.3"]
    values = {(t, p): chrf("fp32", "top_p", {T: t, P: p}) for t in GRID[T] for p in GRID[P]}
    for row, p in zip(rows.all(), (0.95, 0.9, 0.8), strict=True):
        shown = [float(text) for text in row.locator("td").all_text_contents()]
        assert shown == pytest.approx([values[t, p] for t in GRID[T]], abs=0.0501)
    best = max(values, key=lambda cell: values[cell])
    region = {cell for cell in values if values[best] - values[cell] < 2}
    assert best == (0.7, 0.9)
    for r, p in enumerate((0.95, 0.9, 0.8)):
        for c, t in enumerate(GRID[T]):
            cell = rows.nth(r).locator("td").nth(c)
            classes = (cell.get_attribute("class") or "").split()
            assert ("within" in classes) == ((t, p) in region)
            assert ("best" in classes) == ((t, p) == best)
            if (t, p) in region:
                assert ("edge-left" in classes) == (c == 0 or (GRID[T][c - 1], p) not in region)
                assert ("edge-bottom" in classes) == (p == 0.8 or ((t, GRID[P][1 - r]) not in region))
    shadow = "(node) => getComputedStyle(node).boxShadow"
    assert "3px" in rows.nth(0).locator(".within").first.evaluate(shadow)
    assert "3px" not in rows.nth(0).locator("td:not(.within)").first.evaluate(shadow)
    shades = [
        int(s) for s in view.eval_on_selector_all("#heat td", "(all) => all.map((td) => td.dataset.shade)")
    ]
    shown = [values[t, p] for p in (0.95, 0.9, 0.8) for t in GRID[T]]
    assert [shade for _, shade in sorted(zip(shown, shades, strict=True))] == sorted(shades)
    assert "No significant interaction of the two keys (p = 0.3)" in view.text_content("#heat .caption")
    view.locator("#heat .best a").click()
    view.wait_for_selector("#settings tbody tr")
    assert view.locator("#run option:checked").text_content() == "temperature=0.7 top_p=0.9"


def test_where_nothing_is_significantly_worse_the_best_is_outlined_alone(
    tmp_path: Path, open_page: Open
) -> None:
    view = open_page(write_swept(tmp_path, undecided, decodings=("top_p",), keys=GRID)).view
    view.wait_for_selector("#heat td")
    assert view.locator("#heat td").count() == 12
    outlined = view.locator("#heat td.within")
    assert outlined.all_text_contents() == [f"{chrf('fp32', 'top_p', {T: 0.7, P: 0.9}):.1f}"]
    assert outlined.evaluate("(td) => ['top', 'bottom', 'left', 'right'].every((s) => "
                             "td.classList.contains(`edge-${s}`))")  # fmt: skip
    assert "No cell is significantly worse." in view.text_content("#heat .caption")
    assert view.locator("#metrics .chip:has-text('significantly worse')").count() == 0
    assert view.locator("#metrics .chip.good").count() == 1


def test_a_heat_map_of_several_strategies_shows_that_of_the_best(tmp_path: Path, open_page: Open) -> None:
    view = open_page(write_swept(tmp_path, decodings=("top_p", "min_p"), keys=GRID)).view
    view.wait_for_selector("#heat td")
    select = view.get_by_label("Runs of the heat map")
    assert select.input_value() == "min_p"
    select.select_option("top_p")
    assert view.locator("#heat td").nth(5).text_content() == f"{chrf('fp32', 'top_p', {T: 0.7, P: 0.9}):.1f}"
    assert view.locator("#heat td.best").count() == 0
    assert "Best run: min_p temperature=0.7 top_p=0.9" in view.text_content("#heat .caption")


def test_parallel_coordinates_lead_from_choices_to_metrics(grid: Path, open_page: Open) -> None:
    view = open_page(grid).view
    (plot,) = plots_of(view, "parallel")
    assert plot["names"]["text"][:3] == ["temperature", "top_p", "chrF ↑"]
    lines = dict(zip(plot["lines"]["name"], plot["lines"]["y"], strict=True))
    assert len(lines) == 12
    assert len(plot) == 4, "no glyph of its own for each run"
    values = [chrf("fp32", "top_p", {T: t, P: p}) for t in GRID[T] for p in GRID[P]]
    place = (chrf("fp32", "top_p", {T: 1.0, P: 0.8}) - min(values)) / (max(values) - min(values))
    assert lines["temperature=1.0 top_p=0.8"][:3] == pytest.approx([2 / 3, 0, place], abs=1e-4)
    widths = dict(zip(plot["lines"]["name"], plot["lines"]["width"], strict=True))
    assert max(widths, key=lambda name: widths[name]) == "temperature=0.7 top_p=0.9"
    view.click("#parallel summary")
    view.get_by_label("rep-4").uncheck()
    (plot,) = plots_of(view, "parallel")
    assert "rep-4 ↓" not in plot["names"]["text"]
    assert "axes=" in view.evaluate("() => location.hash")


def test_a_slope_is_not_said_to_lead_out_of_what_a_metric_can_be(tmp_path: Path, open_page: Open) -> None:
    def steep(compared: Comparison) -> Comparison:
        trends = [replace(t, slope=-0.9, low=-2.0, high=-0.1, shape="falls") for t in compared.trends]
        return replace(compared, trends=tuple(trends))

    path = write_swept(tmp_path, steep, decodings=("top_p",), keys={T: (0.3, 0.5, 1.8)})
    view = open_page(path, "#/overview?curves=text/repeated_4").view
    view.wait_for_selector("#curves .caption")
    # rep-4 is a share: -2.0 * 1.5 = -3 would be below -1.
    text = view.text_content("#curves .caption")
    assert "Falls: on a fitted line −1.000 [−1.000, −0.150] from 0.3 to 1.8" in text


def test_intervals_say_what_a_difference_is(curves: Path, open_page: Open) -> None:
    view = open_page(curves).view
    view.wait_for_selector("#metrics tbody tr")
    sentence = "A difference is the mean over the prompts that both runs have"
    assert sentence not in view.text_content("#metrics-caption")
    view.click("#intervals")
    assert sentence in view.text_content("#metrics-caption")


def unsupported(compared: Comparison) -> Comparison:
    """A comparison in which no metric but the goal has a trend, and no latency differs significantly."""
    cells = {
        label: {
            key: replace(cell, difference=None) if key.startswith("latency/") else cell
            for key, cell in of.items()
        }
        for label, of in compared.cells.items()
    }
    trends = tuple(t for t in compared.trends if not t.metric.startswith("latency/"))
    return replace(compared, cells=cells, trends=trends)


@pytest.mark.parametrize("supported", [True, False])
def test_the_direction_of_an_effect_is_coloured_only_where_a_test_supports_it(
    tmp_path: Path, open_page: Open, supported: bool
) -> None:
    def without_trends(compared: Comparison) -> Comparison:
        return replace(unsupported(compared), cells=compared.cells)

    change = without_trends if supported else unsupported
    path = write_swept(tmp_path, change, decodings=("top_p",), keys={T: (0.5, 0.7, 1.0, 1.2, 1.3, 1.4)})
    view = open_page(path).view
    row = view.locator("table.effects tbody tr", has=view.locator("th", has_text="ITL"))
    # The sweep's time per token rises by 0.1 a run, and only differences of 2 are significant there.
    assert "not significant" in row.text_content()
    assert row.locator(".sign").count() == 0
    goal = view.locator("table.effects tbody tr", has=view.locator("th", has_text="rep-4"))
    assert goal.locator(".sign.better").count() == 1, "its trend falls, which is better"


def test_few_runs_have_no_parallel_coordinates(tmp_path: Path, open_page: Open) -> None:
    view = open_page(write_swept(tmp_path, keys={T: (0.5, 0.7, 1.0)})).view
    view.wait_for_selector("#metrics tbody tr")
    assert view.locator("#metrics tbody tr").count() == 6
    assert view.locator("#parallel").is_hidden()


def test_hue_is_the_strategy_and_shape_the_precision_in_all_charts(eight: Path, open_page: Open) -> None:
    view = open_page(eight).view
    (plot,) = plots_of(view, "pareto")
    marks = plot["marks"]
    assert len(set(marks["colour"])) == 8
    assert marks["colour"][:8] == marks["colour"][8:], "a strategy has one hue at both precisions"
    assert marks["shape"] == ["circle"] * 8 + ["square"] * 8
    (plot,) = plots_of(view, "entropy")
    assert plot["curves"]["colour"] == marks["colour"]
    assert plot["curves"]["dash"] == ["solid"] * 8 + ["7 4"] * 8
    legend = view.locator(".panel:has(#chart-pareto) .chart-legend .key")
    assert legend.locator("b").all_text_contents() == ["Strategy", "Quantization"]
    assert legend.nth(1).locator("span").all_text_contents() == ["fp32", "bnb_nf4"]
    first = legend.nth(0).locator(".dot").first.evaluate("(node) => getComputedStyle(node).backgroundColor")
    rgb = tuple(int(marks["colour"][0][i : i + 2], 16) for i in (1, 3, 5))
    assert first == f"rgb{rgb}"


def test_more_than_eight_strategies_are_small_multiples(twelve: Path, open_page: Open) -> None:
    view = open_page(twelve).view
    for chart in ("pareto", "entropy", "curve-0-0"):
        plots = plots_of(view, chart)
        assert len(plots) == 12
        assert view.locator(f"#chart-{chart} h3").all_text_contents() == [f"s{i}" for i in range(12)]
    grey = "rgb(225, 225, 220)"
    for i, plot in enumerate(plots_of(view, "pareto")):
        coloured = {
            name for name, c in zip(plot["marks"]["name"], plot["marks"]["colour"], strict=True) if c != grey
        }
        assert coloured == {f"s{i} temperature=0.5", f"s{i} temperature=1.0"}


def through_the_charts(page: Any) -> None:
    """Draw all charts, in both themes; the body never grows wider than the window."""
    view = page.view
    view.wait_for_selector("#metrics tbody tr")
    for _ in range(2):
        for chart in ("curve-0-0", "curve-1-0", "pareto", "entropy", "parallel"):
            assert plots_of(view, chart)
        assert page.overflow() <= 0
        assert view.locator(".chart .error").count() == 0
        view.click("#theme")


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("size", "dark", "framed"),
    [(DESKTOP, False, True), (PHONE, True, False), (PHONE, False, True)],
)
def test_charts_in_every_place(
    grid: Path, open_page: Open, size: tuple[int, int], dark: bool, framed: bool
) -> None:
    through_the_charts(open_page(grid, size=size, dark=dark, framed=framed))


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("size", "framed"), [(DESKTOP, False), (PHONE, True)])
def test_hostile_names_stay_names_in_the_charts(
    tmp_path: Path, open_page: Open, size: tuple[int, int], framed: bool
) -> None:
    names = (HOSTILE["script"], HOSTILE["bidi"], HOSTILE["long"][:300], "constructor")
    path = write_swept(
        tmp_path, decodings=names, quantizations=("fp32", HOSTILE["comment"]), keys=GRID, tokens=8
    )
    page = open_page(path, size=size, framed=framed)
    through_the_charts(page)
    view = page.view
    (plot,) = plots_of(view, "parallel")
    shown = [
        *plot["ticks"]["text"],
        *plot["lines"]["name"],
        *view.locator("#heat select option").all_text_contents(),
    ]
    assert not any(char in text for text in shown for char in "\u202e\u2066\u200b\ufeff")
    assert (
        view.evaluate("() => document.querySelectorAll('#view-overview img, #view-overview script').length")
        == 0
    )
