"""The rows of chosen samples: which samples they hold, and that all is computed of those alone."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from drifting_sweep import drifting_sweep
from fake_points import TEXTS_ONLY, write_samples
from sampled_sweep import CERTAINTY, DRAWN, LOGPROBS, sampled_sweep

from harness.analysis.answer_costs import cost_sentence
from harness.analysis.compare_points import compare
from harness.analysis.drift_costs import precision_report
from harness.analysis.metrics.reference_metrics import chrf
from harness.analysis.metrics.requested import RequestedMetrics
from harness.analysis.point_results import PointResult, point_results
from harness.analysis.selection.selected_points import FOLDER, Selection, selection_of
from harness.analysis.swept import BestSet
from harness.artifacts.compute_metrics import add_metrics
from harness.config.structure import Structure
from harness.report.page.chunks import CompressedChunks
from harness.report.page.quantization_section import quantization_section
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep

ALL = ["best_of", "best_of_sum", "majority", "mbr", "self_certainty", "first_valid"]
CHOSEN = {
    "best_of": {"two": 3, "three": 1, "words": 2},
    # sums: -3 -6 -10 -1.5 | -2 -3 -1.5 -3 | -1 -1.2 -1.6 -4
    "best_of_sum": {"two": 3, "three": 2, "words": 0},
    # three: two 6 (exp -2 + exp -3), two 5 (exp -3 + exp -1.5); words: four of one each, the likeliest
    "majority": {"two": 1, "three": 1, "words": 0},
    "self_certainty": {"two": 2, "three": 0, "words": 3},
}


def selected(outputs: Path, **options: object) -> tuple[Sweep, Selection]:
    sweep = sampled_sweep(outputs, **options)
    return sweep, selection_of(sweep, point_results(sweep))


def row_of(selection: Selection, name: str) -> PointResult:
    (found,) = (p for p in selection.points if p.point.label == f"m/none/top_p select={name}")
    return found


def test_each_selector_is_a_row_after_its_run(outputs: Path) -> None:
    _, selection = selected(outputs, select=ALL)
    labels = [p.point.label for p in selection.points]
    rows = [f"m/none/top_p select={name}" for name in ALL[:-1]]
    assert labels == ["m/none/greedy", "m/none/top_p", *rows]  # greedy has one sample; nothing is valid
    assert [p.selected_from for p in selection.points] == [0, 0, *[4] * 5]
    assert {p.selected_of for p in selection.points[2:]} == {"m/none/top_p"}
    assert selection.points[2].point.varied == {"decoding": "top_p", "compare.select": "best_of"}
    assert any("first_valid needs a grammar" in note and "m/none/top_p" in note for note in selection.notes)
    assert "one of 4 samples" in selection.notes[0]


@pytest.mark.parametrize("name", list(CHOSEN))
def test_a_row_holds_the_chosen_samples(outputs: Path, name: str) -> None:
    _, selection = selected(outputs, select=ALL)
    row = row_of(selection, name)
    assert row.stored is not None
    found = row.stored.columns("generations", ["prompt_id", "sample", "chosen_sample", "output", "seed"])
    assert dict(zip(found["prompt_id"], found["chosen_sample"], strict=True)) == CHOSEN[name]
    assert found["sample"] == [0, 0, 0]
    assert found["seed"] == found["chosen_sample"]
    texts = [DRAWN[prompt][number] for prompt, number in CHOSEN[name].items()]
    assert found["output"] == texts
    tokens = row.stored.columns("tokens", ["prompt_id", "sample", "token"])
    joined = {p: "".join(t for q, t in zip(tokens["prompt_id"], tokens["token"], strict=True) if p == q)
              for p in CHOSEN[name]}  # fmt: skip
    assert list(joined.values()) == texts
    assert set(tokens["sample"]) == {0}
    assert selection.choices["m/none/top_p"].as_json()[name] == CHOSEN[name]


def test_metrics_are_those_of_the_chosen_samples(outputs: Path) -> None:
    _, selection = selected(outputs, select=["best_of"])
    metrics = row_of(selection, "best_of").metrics
    texts = {prompt: DRAWN[prompt][number] for prompt, number in CHOSEN["best_of"].items()}
    references = {"two": "2 + 2 is 4", "three": "6", "words": "yes"}
    scores = [chrf(texts[prompt], references[prompt]) for prompt in texts]
    assert metrics["reference/chrf"] == pytest.approx(math.fsum(scores) / 3)
    assert metrics["reference/answer_match"] == 0  # 7, 5 and "no way"
    # Over tokens: three of -0.5, three of -1, two of -0.8
    assert metrics["probability/mean_logprob"] == pytest.approx((-1.5 - 3 - 1.6) / 8)
    assert metrics["text/output_tokens"] == pytest.approx(8 / 3)
    assert metrics["memory/weights_mb"] == 7.5
    lacking = ("latency/", "throughput/", "text/self_bleu")
    assert not [key for key in metrics if key.startswith(lacking)]
    assert row_of(selected(outputs, select=["majority"])[1], "majority").metrics[
        "reference/answer_match"
    ] == pytest.approx(1 / 3)  # 4, 5 and "no"


def test_rows_are_compared_by_prompt_with_all_others(outputs: Path) -> None:
    sweep, selection = selected(outputs, select=["majority"])
    comparison = compare(sweep, selection.points)
    cell = comparison.cells["m/none/top_p select=majority"]["probability/mean_logprob"]
    assert cell.difference is not None
    assert cell.difference.prompts == 3
    # greedy: -1 -2 -1; chosen: two 1 (-2), three 1 (-1), words 0 (-1)
    assert cell.difference.mean == pytest.approx(((-2 + 1) + (-1 + 2) + (-1 + 1)) / 3)
    plain = compare(sweep, point_results(sweep))
    assert comparison.disagreement == plain.disagreement  # chosen outputs are no further ones


def test_what_is_said_of_runs_is_not_of_their_chosen_samples(outputs: Path) -> None:
    sweep = drifting_sweep(outputs, samples=2)
    plain = point_results(sweep)
    selection = selection_of(replace(sweep, compare={"select": ["mbr", "best_of"]}), plain)
    assert len(selection.points) == 3 * len(plain)
    assert precision_report(selection.points) == precision_report(plain)
    compared = []
    for points in (selection.points, plain):
        section = quantization_section(points, CompressedChunks(20))
        assert section is not None
        labels = [p.point.label for p in points]
        compared.append({labels[point]: labels[reference] for point, reference, _ in section["drifted"]})
    assert compared[0] == compared[1] != {}
    comparison, without = compare(sweep, selection.points), compare(sweep, plain)
    assert comparison.trends == without.trends
    assert comparison.answer is not None
    assert without.answer is not None
    titles = [[s.title for s in answer.sentences] for answer in (comparison.answer, without.answer)]
    assert titles[0] == titles[1]


def test_the_cost_of_a_choice_is_all_samples(outputs: Path) -> None:
    _, selection = selected(outputs, select=["best_of"])
    row = row_of(selection, "best_of")
    sentence = cost_sentence(selection.points, BestSet(row.point.label, (), ()))
    assert sentence is not None
    assert sentence.text({row.point.label: "it"}).startswith("it takes 4 samples per prompt, 8 MB of weights")


def test_what_is_chosen_already_is_not_written_again(outputs: Path) -> None:
    sweep, selection = selected(outputs, select=["best_of", "mbr"])
    stored = row_of(selection, "mbr").stored
    assert stored is not None
    before = stored.path("parts.json").stat().st_mtime_ns
    again = selection_of(sweep, point_results(sweep))
    assert stored.path("parts.json").stat().st_mtime_ns == before
    assert row_of(again, "mbr").metrics == row_of(selection, "mbr").metrics
    stored.path("generations.parquet").write_bytes(b"damaged")
    assert (
        row_of(selection_of(sweep, point_results(sweep)), "mbr").metrics == row_of(selection, "mbr").metrics
    )
    fewer = replace(sweep, compare={"select": ["best_of"]})
    selection_of(fewer, point_results(sweep))
    assert [one.name for one in (sweep.folder / FOLDER).iterdir()] == [f"{sweep.points[1].point_id}-best_of"]
    none = selection_of(replace(sweep, compare={}), point_results(sweep))
    assert list(none.points) == point_results(sweep)
    assert none.notes == ()
    assert not (sweep.folder / FOLDER).exists()


def test_first_valid_is_the_first_with_an_answer(outputs: Path) -> None:
    _, selection = selected(outputs, select=["first_valid"], answer_pattern=r"\b[4-6]\b|yes")
    found = row_of(selection, "first_valid").stored
    assert found is not None
    assert found.columns("generations", ["chosen_sample"])["chosen_sample"] == [0, 0, 1]


def test_first_valid_is_the_first_that_meets_its_grammar(outputs: Path) -> None:
    sweep = sampled_sweep(outputs, select=["first_valid"])
    stored = point_results(sweep)[1].stored
    assert stored is not None
    choices = Structure("choices", json.dumps([" is it 4 ?", " 6", " well"]))
    add_metrics(stored, RequestedMetrics(structure=choices))
    chosen = selection_of(sweep, point_results(sweep)).choices["m/none/top_p"].as_json()
    assert chosen == {"first_valid": {"two": 2, "three": 0, "words": 3}}


def test_samples_of_which_only_the_texts_are_known(outputs: Path) -> None:
    sweep = sampled_sweep(outputs, select=ALL)
    samples = [
        replace(TEXTS_ONLY, sample=i, output=text) for i, text in enumerate(("it is 4", "5", "4", "4.0"))
    ]
    stored = StoredPoint(outputs / "points" / sweep.points[1].point_id)
    stored.write_parts({}, unsealed=stored.seals())
    write_samples(outputs, stored.point_id, samples)
    selection = selection_of(sweep, point_results(sweep))
    assert list(selection.choices["m/none/top_p"].selectors) == ["majority", "mbr"]
    assert selection.choices["m/none/top_p"].as_json()["majority"] == {"texts": 0}
    assert sum("left out" in note for note in selection.notes) == 4
    compare(sweep, selection.points)


def test_a_pattern_that_explodes_is_a_note(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sampled_sweep(outputs, select=["majority"], answer_pattern="(a+)+b")
    monkeypatch.setattr("harness.analysis.metrics.extracted_answer.SECONDS", 1e-9)
    selection = selection_of(sweep, point_results(sweep))
    assert len(selection.points) == 2
    assert "repetitions of repetitions" in selection.notes[0]


def test_samples_of_one_each_are_a_note(outputs: Path) -> None:
    sweep = sampled_sweep(outputs, select=["mbr"])
    single = replace(sweep, points=sweep.points[:1])
    selection = selection_of(single, point_results(single))
    assert len(selection.points) == 1
    assert "generation.samples" in selection.notes[0]


def test_the_numbers_of_this_file_are_of_four_samples() -> None:
    assert all(len(some) == 4 for table in (DRAWN, LOGPROBS, CERTAINTY) for some in table.values())
