"""Which points decode together, and how many texts at once: figures worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.backends.hf.batching import Batching, batching, families, text_cache_bytes
from harness.plan.plan import PlannedPoint, make_plan

BASE = [
    "model=fable_tiny",
    "prompts=storytelling",
    "timing=off",
    "tracking=off",
    "generation.max_new_tokens=8",
]


def planned(*overrides: str) -> Sequence[PlannedPoint]:
    """The points of a command."""
    from harness.config import hydra_app as app

    found: list[PlannedPoint] = []

    def action(points: Any, name: str, files: Any) -> int:
        found.extend(make_plan(points, name).points)
        return 0

    assert app.run([*BASE, *overrides], action) == 0
    return found


@pytest.mark.usefixtures("outputs")
class TestBatching:
    def test_one_row_strategies_of_one_prompt_set_are_a_family_and_beams_stand_alone(self) -> None:
        points = planned("-m", "decoding=greedy,beam,top_p", "prompts.limit=3,5")
        names = [(point.point.decoding.name, point.point.prompts.limit) for point in points]
        told = [{names[place] for place in family} for family in families(points)]
        assert told == [
            {("greedy", 3), ("top_p", 3)},
            {("greedy", 5), ("top_p", 5)},
            {("beam", 3)},
            {("beam", 5)},
        ]
        apart = planned("-m", "decoding=greedy,top_p", "engine.fuse=false")
        assert families(apart) == [[0], [1]]

    def test_a_cache_by_hand(self) -> None:
        (greedy,), (beam,) = planned("decoding=greedy"), planned("decoding=beam")
        longest = max(len(prompt.ids) for prompt in greedy.prompts) + 8
        # keys and values of 2 layers, 2 heads of 32, 4 bytes each
        assert text_cache_bytes(greedy, 4) == 2 * 2 * 2 * 32 * 4 * longest
        beams = beam.effective["num_beams"]
        assert text_cache_bytes(beam, 2) == beams * text_cache_bytes(greedy, 4) // 2

    def test_texts_that_fit(self) -> None:
        family = planned("-m", "decoding=greedy,top_p", "generation.samples=1", "prompts.limit=7")
        vocabulary, cache = family[0].files.vocab_size, text_cache_bytes(family[0], 4)
        assert vocabulary is not None
        text = 2 * cache + vocabulary * 4 * 12
        six = round(6.5 * text / 0.6)  # three fifths of what is free may be taken: six texts and a half
        assert batching(family, six, 4, False) == Batching(6, 3, 3, 6 * cache)
        assert batching(family, 0, 4, False) == Batching(1, 1, 7, cache)
        assert batching(family, 10**15, 4, False) == Batching(128, 64, 1, 14 * cache)
        assert batching(family, 10**15, 4, True) == Batching(1, 1, 7, cache)

    def test_batch_rows_is_taken_as_it_is(self) -> None:
        family = planned("decoding=greedy", "prompts.limit=7", "engine.batch_rows=4")
        cut = batching(family, 0, 4, False)
        assert (cut.rows, cut.prompts, cut.batches) == (4, 4, 2)

    def test_the_plan_tells_it(self, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from harness.cli.main import main

        assert main(["plan", *BASE, "prompts.limit=7", "engine.batch_rows=4"]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        (place,) = [number for number, words in enumerate(lines) if words[:1] == ["group"]]
        assert lines[place][5:] == ["batches", "texts", "each", "cache", "each"]
        assert lines[place + 1][6:8] == ["2", "4"]  # two batches of four texts
