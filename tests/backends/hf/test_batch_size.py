"""Which points decode together, and how many samples at once: figures worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts.job import Job, families, prompts_per_batch
from harness.backends.backend import Request, TokenIds
from harness.backends.hf.batch_size import batch_rows, request_cache_bytes
from harness.plan.plan import make_plan

BASE = [
    "model=fable_tiny",
    "prompts=storytelling",
    "timing=off",
    "tracking=off",
    "generation.max_new_tokens=8",
]


def planned(*overrides: str) -> Sequence[Job]:
    """The jobs of a command."""
    from harness.config import hydra_app as app

    found: list[Job] = []

    def action(points: Any, name: str, files: Any) -> int:
        found.extend(make_plan(points, name).jobs)
        return 0

    assert app.run([*BASE, *overrides], action) == 0
    return found


def longest(job: Job) -> Request:
    return job.longest_request(job.strategy(TokenIds()))


def files_of(job: Job) -> Any:
    return job.target.info


@pytest.mark.usefixtures("outputs")
class TestBatching:
    def test_one_row_strategies_of_one_prompt_set_are_a_family_and_beams_stand_alone(self) -> None:
        jobs = planned("-m", "decoding=greedy,beam,top_p", "prompts.limit=3,5")
        names = [(job.point.decoding.name, job.point.prompts.limit) for job in jobs]
        assert [{names[index] for index in family} for family in families(jobs)] == [
            {("greedy", 3), ("top_p", 3)},
            {("greedy", 5), ("top_p", 5)},
            {("beam", 3)},
            {("beam", 5)},
        ]
        apart = planned("-m", "decoding=greedy,top_p", "engine.fuse=false")
        assert families(apart) == [[0], [1]]

    def test_a_cache_by_hand(self) -> None:
        (greedy,), (beam,) = planned("decoding=greedy"), planned("decoding=beam")
        tokens = max(len(prompt.ids) for prompt in greedy.prompts) + 8
        # keys and values of 2 layers, 2 heads of 32, 4 bytes each
        own = request_cache_bytes(longest(greedy), files_of(greedy), 4)
        assert own == 2 * 2 * 2 * 32 * 4 * tokens
        beams = beam.effective["num_beams"]
        assert request_cache_bytes(longest(beam), files_of(beam), 2) == beams * own // 2

    def test_requests_that_fit(self) -> None:
        family = planned("-m", "decoding=greedy,top_p", "generation.samples=1", "prompts.limit=7")
        files, requests = files_of(family[0]), [longest(job) for job in family]
        cache = request_cache_bytes(requests[0], files, 4)
        needed = 2 * cache + files.vocab_size * 4 * 12
        six = round(6.5 * needed / 0.6)  # three fifths of what is free may be taken: six and a half requests
        assert batch_rows(requests, files, "cpu", six, 4) == 6
        assert prompts_per_batch(6, samples_per_prompt=2) == 3
        assert batch_rows(requests, files, "cpu", 0, 4) == 1
        assert prompts_per_batch(1, samples_per_prompt=2) == 1
        assert batch_rows(requests, files, "cpu", 10**15, 4) == 512
        assert prompts_per_batch(512, samples_per_prompt=2) == 256
        # Each of four devices has a quarter of the cache, and one has all logits.
        quarter = round(6.5 * (cache / 2 + files.vocab_size * 4 * 12) / 0.6)
        assert batch_rows(requests, files, "cuda", quarter, 4, cache_share=0.25) == 6
        (beam,) = planned("decoding=beam")
        assert batch_rows([longest(beam)], files, "cuda:0", 10**15, 4) == 512 // beam.effective["num_beams"]

    def test_batch_rows_is_taken_as_it_is(self) -> None:
        (job,) = planned("decoding=greedy", "prompts.limit=7", "engine.batch_rows=4")
        assert job.target.estimate([longest(job)], 4).rows == 4
        assert prompts_per_batch(4, samples_per_prompt=1) == 4

    def test_strategies_that_decode_one_by_one(self) -> None:
        (job,) = planned("decoding=beam_sample", "prompts.limit=7")
        assert job.target.estimate([longest(job)], None).rows == 1

    def test_the_plan_tells_it(self, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from harness.cli.main import main

        assert main(["plan", *BASE, "prompts.limit=7", "engine.batch_rows=4"]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        (index,) = [number for number, words in enumerate(lines) if words[:1] == ["group"]]
        assert lines[index][5:] == ["batches", "samples", "each", "cache", "each"]
        assert lines[index + 1][6:8] == ["2", "4"]  # two batches of four samples
