from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_points import PROMPTS, make_sweep
from made_comparison import made_up_comparison
from read_page import Page
from scored_sweep import scored_sweep
from swept_sweep import GOAL, swept_comparison, swept_sweep

from harness.analysis.point_results import point_results
from harness.report.page.compare_page import compare_html


def test_every_cell_effect_and_front_is_in_the_page(outputs: Path) -> None:
    sweep = make_sweep(outputs, failed="top_p", tokens=5)
    points = point_results(sweep)
    comparison = made_up_comparison(points)
    data = Page(compare_html(sweep, points, comparison=comparison)).data
    assert data["baseline"] == 0
    assert data["approximate"] is True
    assert data["notes"] == ["one thing could not be compared"]
    for p, shown in zip(points, data["points"], strict=True):
        cells = comparison.cells.get(p.point.label, {})
        assert set(shown["cells"]) == set(cells)
        for key, cell in cells.items():
            value, low, high, *difference = shown["cells"][key]
            assert difference[1:] == ([True] if cell.constant else [])
            assert abs(value - cell.value) <= 1e-5 * abs(cell.value)
            assert (low is None) == (cell.low is None)
            assert (high is None) == (cell.high is None)
            if cell.difference:
                assert difference[0][4:] == [
                    cell.difference.word, cell.difference.verdict, cell.difference.within_noise, 6,
                ]  # fmt: skip
    assert [effect[:2] for effect in data["effects"]] == [
        ["latency/itl_p50_ms", "decoding"],
        ["latency/itl_p50_ms", "model"],
    ]
    assert data["effects"][1][4:] == [[["fable_tiny", 2], ["fable_small", 2.5]], ["prompts"]]
    front = data["front"]
    assert [data["points"][index]["label"] for index in front["points"]] == list(comparison.front.labels)
    assert data["noise"] == {"latency/itl_p50_ms": 0.125}


def test_prompts_come_by_disagreement_and_keep_their_tokens_in_that_order(outputs: Path) -> None:
    texts = {f"p{i:02d}": "x" for i in range(12)}
    sweep = make_sweep(outputs, models=("m",), texts=texts, tokens=60)
    points = point_results(sweep)
    page = Page(compare_html(sweep, points, comparison=made_up_comparison(points), budget_mb=0.04))
    assert [prompt["id"] for prompt in page.prompts] == sorted(texts, reverse=True)
    kept = [bool(prompt["steps"]) for prompt in page.prompts]
    assert 0 < sum(kept) < 12
    assert kept == sorted(kept, reverse=True)
    assert any("those with the largest disagreement have them" in note for note in page.data["notes"])
    assert all(len(prompt["samples"]) == 3 for prompt in page.prompts)
    assert len(page.scripts[3]) - page.data["settings"][1] <= 40_000


def test_the_answer_is_in_the_page_with_links_by_index(outputs: Path) -> None:
    sweep = make_sweep(outputs, failed="top_p", tokens=5)
    points = point_results(sweep)
    comparison = made_up_comparison(points)
    data = Page(compare_html(sweep, points, comparison=comparison)).data
    labels = [point["label"] for point in data["points"]]
    answer = data["answer"]
    assert (answer["goal"], labels[answer["best"]]) == ("text/distinct_2", comparison.answer.best)
    best, tied, prompt, failed = answer["sentences"]
    assert best == {
        "title": "Best dist-2",
        "spans": [{"point": answer["best"]}, " with dist-2 0.91."],
        "evidence": "0.85 to 0.95",
        "tone": "good",
    }
    assert [labels[span["point"]] for span in tied["spans"] if isinstance(span, dict)] == [
        p.point.label for p in points if p.metrics
    ][:3]
    assert prompt["spans"][1] == {"prompt": list(PROMPTS)[-1]}
    assert failed["spans"][1] == "of another sweep", "what is no point of the page is text"
    assert data["tested"] == "what is tested"


def test_the_goal_and_reference_metrics_come_first(outputs: Path) -> None:
    sweep = swept_sweep(outputs, keys={"decoding.temperature": (0.5, 1.0)}, tokens=5)
    points = point_results(sweep)
    compared = swept_comparison(points)
    assert compared.answer
    goal = replace(compared.answer, goal="text/repeated_4")
    data = Page(compare_html(sweep, points, comparison=replace(compared, answer=goal))).data
    keys = [metric["key"] for metric in data["metrics"]]
    assert keys[:2] == ["text/repeated_4", "reference/chrf"]
    rest = [metric.key for metric in compared.metrics if metric.key not in keys[:2]]
    assert keys[2:] == rest, "all others in the order of the catalogue"
    assert all(metric["headline"] for metric in data["metrics"][:2])


def test_swept_keys_have_the_value_and_the_group_of_each_point(outputs: Path) -> None:
    keys = {"decoding.temperature": (0.5, 1.0), "decoding.top_p": (0.8, 0.9)}
    sweep = swept_sweep(outputs, ("greedy", "top_p"), keys=keys, unswept=("greedy",), tokens=5)
    points = point_results(sweep)
    compared = swept_comparison(points)
    data = Page(compare_html(sweep, points, comparison=compared)).data
    assert [(each["key"], each["name"], each["values"]) for each in data["swept"]] == [
        ("decoding.temperature", "temperature", [0.5, 1]),
        ("decoding.top_p", "top_p", [0.8, 0.9]),
    ]
    temperature, top_p = data["swept"]
    assert temperature["of"] == [None, 0, 0, 1, 1]
    assert top_p["of"] == [None, 0, 1, 0, 1]
    assert (temperature["group"], temperature["groups"]) == ([None, 0, 0, 0, 0], ["fp32/top_p"])
    trend = next(t for t in data["trends"] if t["metric"] == GOAL and t["key"] == "decoding.temperature")
    expected = next(t for t in compared.trends if t.metric == GOAL and t.key == "decoding.temperature")
    assert trend["slope"] == pytest.approx(
        [expected.slope, expected.low, expected.high, expected.p], rel=1e-3
    )
    assert (trend["shape"], trend["best"], trend["plateau"]) == (expected.shape, expected.best, [0.5, 1])
    best, ties, worse = data["best"][GOAL]
    labels = [point["label"] for point in data["points"]]
    found = compared.best[GOAL]
    assert (labels[best], [labels[i] for i in ties]) == (found.label, list(found.ties))
    assert [labels[i] for i in worse] == list(found.worse)
    assert [each["keys"] for each in data["interactions"]] == [list(keys)]
    assert {name: levels for name, levels, _ in data["factors"]}["decoding"] == ["greedy", "top_p"]


def test_without_a_comparison_the_page_shows_values_alone(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=5)
    data = Page(compare_html(sweep, point_results(sweep))).data
    assert data["baseline"] is None
    assert data["front"] is None
    assert data["answer"] is None
    assert data["swept"] == []
    ttft = data["points"][0]["cells"]["latency/ttft_p50_ms"]
    assert len(ttft) == 3
    assert None not in ttft
    assert data["points"][0]["cells"]["text/distinct_2"][1:] == [None, None]


def test_expectations_and_feedback_of_any_shape_are_in_the_page(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=5)
    label = sweep.points[1].label
    expected = [
        SimpleNamespace(text="ends", label=label, prompt_id="chat", passed=False, got=3),
        SimpleNamespace(),
    ]
    feedback = [
        {"label": label, "prompt_id": "chat", "sample": 0, "name": "rating", "value": 4.0, "comment": "<b>"},
        {"label": "of another sweep", "prompt_id": "chat", "sample": 0, "name": "rating", "value": 1},
        {"label": label, "prompt_id": "chat", "name": "odd", "value": [1, 2]},
    ]
    data = Page(compare_html(sweep, point_results(sweep), expectations=expected, feedback=feedback)).data
    assert data["expectations"] == [
        {"text": "ends", "point": 1, "prompt": "chat", "passed": False, "got": "3"},
        {"text": "", "point": None, "prompt": None, "passed": False, "got": None},
    ]
    columns = ("point", "prompt", "sample", "name", "value", "comment", "source")
    assert [tuple(feedback[name] for name in columns) for feedback in data["feedback"]] == [
        (1, "chat", 0, "rating", 4.0, "<b>", None),
        (1, "chat", 0, "odd", "[1, 2]", None, None),
    ]


def test_settings_have_the_requested_beside_the_effective_config(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), failed="top_p", tokens=5)
    page = Page(compare_html(sweep, point_results(sweep)))
    first, failed, _ = page.json(page.data["settings"])
    assert first["requested"]["decoding.do_sample"] == "false"
    assert first["requested"]["prompts.items"] == "6 prompts"
    assert not [key for key in first["requested"] if "bnb_4bit" in key], "of a quantization that uses none"
    assert first["requested"]["generation.stop_strings"] == '["[end]"]'
    assert first["effective"]["top_p"] == "0.9"
    assert first["environment"]["versions.torch"] == "2.13"
    assert failed == {}


def test_curves_are_means_by_position_and_latencies_measurements(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), decodings=("greedy", "top_p"), tokens=9)
    points = point_results(sweep)
    shown = Page(compare_html(sweep, points)).data["points"][0]
    rows = points[0].stored.rows("tokens")
    for position in (0, 5):
        values = [row["entropy"] for row in rows if row["position"] == position]
        assert abs(shown["entropy"][position] - sum(values) / len(values)) < 1e-3
    for kind, column in (("ttft", "ttft_ms"), ("itl", "itl_ms")):
        taken = [row[column] for row in points[0].stored.rows("timing")]
        values = sorted(taken if kind == "ttft" else [value for row in taken for value in row])
        latency = shown["latency"][kind]
        assert latency["times"] == values
        assert latency["count"] == len(values)
        assert latency["quartiles"][1] == statistics.median(values)
        assert (latency["tails"] is None) == (len(values) < 20)


def test_prompts_have_their_reference_turns_title_and_scores(outputs: Path) -> None:
    sweep = scored_sweep(outputs)
    page = Page(compare_html(sweep, point_results(sweep)))
    scores = [(score["column"], score["passes"]) for score in page.data["scores"]]
    assert scores[:2] == [("chrf", False), ("exact_match", False)], "the goal is chrF"
    assert scores[-1] == ("own_politeness", False)
    found = {prompt["id"]: prompt for prompt in page.prompts}
    assert found["capital"]["title"] == "What is the capital of Portugal?"
    assert found["capital"]["reference"] == "Lisbon."
    assert found["hello"]["reference"] is None
    assert found["hello"]["ends"] is None
    assert found["hello"]["turns"] == [["system", "Be kind."], ["user", "Say hello."]]
    assert found["hello"]["text"] == "<|system|>Be kind.<|user|>Say hello.<|assistant|>"
    assert found["colours"]["turns"] == []
    greedy = found["capital"]["samples"][0]["metrics"]
    assert greedy["exact_match"] == 1
    values = [sample["metrics"]["chrf"] for sample in found["capital"]["samples"]]
    assert found["capital"]["ends"] == [min(values), max(values)]


def test_prompts_are_sorted_by_the_metric_that_the_question_is_about(outputs: Path) -> None:
    sweep = scored_sweep(outputs)
    goal = replace(sweep, compare={"goal": "own/politeness"})
    page = Page(compare_html(goal, point_results(sweep)))
    assert page.data["scores"][0]["column"] == "own_politeness"
    assert {tuple(prompt["ends"]) for prompt in page.prompts} == {(0, 0)}


def test_a_store_without_references_and_turns_is_shown_as_before(outputs: Path) -> None:
    sweep = make_sweep(outputs)
    page = Page(compare_html(sweep, point_results(sweep)))
    assert page.data["scores"] == []
    for prompt in page.prompts:
        assert (prompt["reference"], prompt["turns"], prompt["ends"]) == (None, [], None)
        assert prompt["title"] == " ".join(PROMPTS[prompt["id"]].split())
