"""Sweeps with drafts: what is stored and shown of speculation, what is made again, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.stored_speculation import stored_drafts
from harness.artifacts.job import Job
from harness.cli.main import main
from harness.config.hydra_app import one_point
from harness.errors import ConfigError
from harness.once import Once
from harness.plan.prepare import prepare
from harness.store.stored_point import StoredPoint

SMALL = [
    "model=fable_small", "quantization=fp32", "tracking=off", "prompts.limit=2",
    "generation.max_new_tokens=12", "timing.prompts=2", "timing.repeats=1", "timing.warmup=0",
    "timing.new_tokens=3",
]  # fmt: skip
DRAFTS = ["speculation.draft=fable_tiny", "speculation.prompt_lookup=true", "speculation.early_exit=1"]
BLOCKS = "speculation.num_assistant_tokens=[1,4]"
FILES = ("speculation.json", "speculation_timing.json")


@pytest.fixture
def run(outputs: Path) -> Callable[..., dict[str, StoredPoint]]:
    """`run("decoding=greedy,top_p", ...)`: the points of a sweep by the name of their strategy."""

    def points(*words: str) -> dict[str, StoredPoint]:
        assert main(["-m", *SMALL, *words]) == 0
        plan = max(outputs.glob("sweeps/*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
        return {
            point["label"].rpartition("/")[2]: StoredPoint(outputs / "points" / point["point_id"])
            for point in json.loads(plan.read_text())["points"]
        }

    return points


def job(*overrides: str) -> Job:
    return prepare(one_point(["model=fable_small", "timing=off", *overrides]), Once())


def written(point: StoredPoint) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in point.folder.iterdir()}


@pytest.mark.usefixtures("one_thread")
def test_a_sweep_stores_and_shows_it_and_makes_only_what_is_missing(
    run: Any, decoded: list[int], capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    words = ["decoding=top_p,beam,cfg", *DRAFTS, BLOCKS]
    found = run(*words)
    printed = capsys.readouterr()
    assert (
        "speculation leaves out beam, cfg: searches, loops of one's own, guidance"
        in printed.err + printed.out
    )
    table = printed.out[printed.out.index("Speculative decoding") :]
    assert all(name in table for name in ("fable_tiny", "prompt lookup", "first layer"))
    assert "no tokens of them differ from plain decoding" in table
    assert "Speculation:" in table
    assert not any(found[name].has(FILES[0]) for name in ("beam", "cfg"))
    _check_stored(found["top_p"])
    page = next(outputs.glob("sweeps/*/compare.html")).read_text(encoding="utf-8")
    assert '"speculation":[{"point":0' in page

    decoded.clear()
    before = written(found["top_p"])
    run(*words)
    assert written(found["top_p"]) == before, "all of it is stored"
    found["top_p"].path(FILES[0]).unlink()
    run(*words)
    after = written(found["top_p"])
    assert {name for name in after if after[name] != before[name]} == {
        *FILES, "parts.json", "metrics.json", "generations.parquet",
    }  # fmt: skip
    assert not decoded, "of stored samples"
    _check_stored(found["top_p"])


def _check_stored(point: StoredPoint) -> None:
    """Check speculation.json against the point's tables, and its metrics against it."""
    drafts = {one.name: one for one in stored_drafts(point)}
    assert list(drafts) == ["fable_tiny", "prompt lookup", "first layer"]
    lengths = [row["output_tokens"] for row in point.rows("generations")]
    for one in drafts.values():
        assert [each.block for each in one.lengths] == [1, 4]
        assert {each.tokens for each in one.lengths} == {sum(lengths)}
        assert all(each.forwards + each.accepted >= each.tokens for each in one.lengths)
        assert one.timing is not None
        assert one.timing["differing"] == 0
        assert one.timing["tokens"] == sum(lengths[:2])
        assert one.timing["block"] in (1, 4)
    assert drafts["prompt lookup"].acceptance is None
    exact = drafts["fable_tiny"].acceptance
    assert exact is not None
    assert exact["positions"] == sum(lengths)
    assert abs(exact["observed"] - exact["coupling"]["mean"]) <= 3 * exact["coupling"]["se"]
    metrics = point.metrics()["metrics"]
    best = max(drafts.values(), key=lambda one: min(one.timing["speedup"], one.most))  # type: ignore[index]
    assert metrics["speculation/tokens_per_forward"] == best.chosen.tokens_per_forward
    assert metrics["speculation/speedup"] == best.timing["speedup"]  # type: ignore[index]
    assert metrics["speculation/differing"] == 0


@pytest.mark.usefixtures("one_thread")
def test_another_draft_is_tried_without_decoding_again(
    run: Any, decoded: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    first = run("decoding=top_p", "timing=off", "speculation.prompt_lookup=true", BLOCKS)["top_p"]
    assert [one.timing for one in stored_drafts(first)] == [None]
    assert "is not timed:" in capsys.readouterr().out
    decoded.clear()
    second = run("decoding=top_p", "timing=off", "speculation.draft=[fable_small]", BLOCKS)["top_p"]
    assert second.folder == first.folder
    assert not decoded
    (itself,) = stored_drafts(second)
    assert itself.acceptance is not None
    assert itself.acceptance["observed"] == 1.0
    assert itself.lengths[1].accepted == sum(itself.lengths[1].accepted_at)
    assert itself.lengths[0].proposed - itself.lengths[0].accepted <= 2, "but past the ends of texts"


def test_it_is_not_part_of_the_address() -> None:
    drafted = job(*DRAFTS)
    assert [draft.name for draft in drafted.drafts] == ["fable_tiny", "prompt lookup", "first layer"]
    assert drafted.point_id == job().point_id
    for left_out in ("decoding=beam", "decoding=cfg", "decoding=contrastive_search", "cache=quantized_fp8"):
        assert not job(left_out, *DRAFTS).drafts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["speculation.draft=fable_tyni"], "speculation.draft=fable_tyni: 'fable_tyni' is neither"),
        (["speculation.early_exit=4"], "has 2 layers, a draft needs fewer; use speculation.early_exit=1"),
        (["speculation.early_exit=[1,9]"], "speculation.early_exit=9: fable_small has 2 layers"),
        (["speculation.draft=[fable_tiny,fable_tiny]"], "names one twice"),
        (["speculation.num_assistant_tokens=3"], "no effect, nothing proposes tokens"),
        (["speculation.num_assistant_tokens=[]"], "names no block length"),
        (
            ["speculation.num_assistant_tokens=65"],
            "must be a list, each a whole number from 1 and at most 64",
        ),
    ],
)
def test_mistakes_are_found_before_anything_is_loaded(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        job(*words)
    assert message in str(caught.value)


def test_a_draft_with_another_tokenizer_is_refused(small_model: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        job(f"speculation.draft={small_model('llama')}")
    assert str(caught.value).startswith("speculation.draft=")
    assert "its tokenizer is not that of fable_small; choose a smaller model of the same" in str(caught.value)
