"""Speculative decoding on the terminal, and what the answer and the metrics say of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from drafted_sweep import drafted_sweep, timing
from rich.console import Console

from harness.analysis.answer_speculation import speculation_sentence
from harness.analysis.point_results import point_results
from harness.analysis.sentence import Sentence
from harness.analysis.stored_speculation import best_draft, speculation_metrics, stored_drafts
from harness.report.speculation_table import speculation_table
from harness.store.stored_point import stored_point
from harness.store.sweeps import Sweep


def lines(sweep: Sweep, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(speculation_table(point_results(sweep), width))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 120])
def test_a_row_a_run_and_draft(outputs: Path, width: int) -> None:
    found = lines(drafted_sweep(outputs), width)
    assert all(len(line) <= width for line in found)
    (greedy,) = [line.split() for line in found if "greedy" in line]
    assert greedy[1:7] == ["small", "one", "2", "2.00", "50%", "1.50×"]  # 30 of 60 proposals
    assert ("[1.40, 1.60]" in " ".join(greedy)) == (width == 120)
    assert sum("prompt lookup" in line for line in found) == 2
    assert found[-1] == "4 tokens of them differ from plain decoding"


def test_without_timing_it_says_how_to_time(outputs: Path) -> None:
    sweep = drafted_sweep(outputs, timed=False)
    found = lines(sweep, 80)
    assert found[-1] == "speed-up is measured with timing=quick"
    sentence = speculation_sentence(point_results(sweep))
    assert sentence is not None
    # 2.5 tokens per forward pass with four proposals: (2.5 - 1) / 4 of a step each.
    assert sentence.text().endswith(
        "has 2.50 tokens per forward pass with small one and 4 tokens a block; "
        "it pays where a proposal costs less than 0.38 of a plain step."
    )


def test_the_answer_and_the_metrics_are_of_the_fastest_draft(outputs: Path) -> None:
    sweep = drafted_sweep(outputs)
    points = point_results(sweep)
    sentence = speculation_sentence(points)
    assert sentence is not None
    assert sentence.text() == (
        "pays in 1 of 2 runs: m/fp32/greedy, 1.50× as fast with small one and 2 tokens a block; "
        "not in m/fp32/top_p."
    )
    assert sentence.evidence == (
        "95% interval 1.40 to 1.60 over outputs and repetitions; 2.00 tokens per forward pass, "
        "a proposal takes 0.25 of a plain step"
    )
    nothing = speculation_sentence(points[1:])
    assert nothing is not None
    assert nothing.text().startswith(
        "does not pay: the best is small one and 2 tokens a block, 0.90× as fast"
    )
    assert "a proposal may cost 0.50 of a plain step at most" in nothing.evidence
    stored = points[0].stored
    assert stored is not None
    assert speculation_metrics(stored) == {
        "speculation/tokens_per_forward": 2.0, "speculation/block": 2.0, "speculation/acceptance": 0.5,
        "speculation/speedup": 1.5, "speculation/draft_share": 0.4, "speculation/differing": 1.0,
    }  # fmt: skip
    draft = stored_drafts(stored)[0]
    assert draft.promised(draft.lengths[1]) == pytest.approx(2 / (1 + 2 * 0.25))
    assert speculation_sentence(points[2:]) is None


def test_a_speed_up_that_the_forward_passes_do_not_allow_is_not_claimed(outputs: Path) -> None:
    sweep = drafted_sweep(outputs)
    stored = stored_point(outputs, sweep.points[0].point_id)

    def sentence(speedup: float, low: float, high: float) -> Sentence:
        timed = {**timing("small one", 2, (speedup, low, high)), "forwards": 50}  # 60 tokens: 1.2 a pass
        stored.write_json("speculation_timing.json", {"obstacle": None, "drafts": [timed]})
        found = speculation_sentence(point_results(sweep)[:1])
        assert found is not None
        return found

    assert "due to other work" not in " ".join(lines(sweep, 120))
    assert sentence(1.15, 1.1, 1.2).text().startswith("pays in the run: m/fp32/greedy, 1.15× as fast")
    more = sentence(1.3, 1.1, 1.5)
    assert more.text().startswith("pays in the run: m/fp32/greedy, at most 1.20× as fast")
    assert more.evidence.endswith("; measured 1.30×, so other work disturbed the timing")
    disturbed = sentence(1.5, 1.3, 1.7)
    assert disturbed.text() == (
        "does not pay: the best is small one and 2 tokens a block, at most 1.20× as fast in m/fp32/greedy, "
        "no significant difference."
    )
    assert lines(sweep, 120)[-1] == "a speed-up above tokens/forward is due to other work of the machine"


def test_the_best_draft_is_not_one_whose_timing_was_disturbed(outputs: Path) -> None:
    sweep = drafted_sweep(outputs)
    stored = stored_point(outputs, sweep.points[0].point_id)
    model = {**timing("small one", 2, (1.5, 1.4, 1.6)), "forwards": 30}
    lookup = {**timing("prompt lookup", 4, (2.3, 0.9, 4.0)), "forwards": 55}
    stored.write_json("speculation_timing.json", {"obstacle": None, "drafts": [model, lookup]})
    best = best_draft(stored_drafts(stored))
    assert best is not None
    assert best.name == "small one"
