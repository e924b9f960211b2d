"""Sweeps of guided strategies: together as alone, addresses that tell what they depend on, the amateur."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harness.artifacts.job import Job
from harness.cli.main import main
from harness.config.hydra_app import one_point
from harness.errors import ConfigError, HarnessError
from harness.models import load as loading
from harness.once import Once
from harness.plan.prepare import prepare

SMALL = ["model=fable_small", "quantization=fp32", "tracking=off", "generation.max_new_tokens=8"]
TIMED = ["timing.prompts=1", "timing.repeats=1", "timing.warmup=0", "timing.new_tokens=3"]
ROWS = [
    {
        "id": "door",
        "prompt": "What color is the door?",
        "context": "The door is green.",
        "reference": "green",
    },
    {
        "id": "fox",
        "prompt": "Where is the fox?",
        "context": "It is in the old house.",
        "negative_prompt": "A",
    },
]
GUIDED = "cfg,context_aware,contrastive_decoding,dola"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))


@pytest.fixture
def run(outputs: Path) -> Callable[..., dict[str, list[dict[str, Any]]]]:
    def points(*words: str) -> dict[str, list[dict[str, Any]]]:
        prompts = ["prompts=custom", "prompts.file=rows.jsonl", 'prompts.template="{context} {prompt}"']
        assert main([*words[:1], *SMALL, *prompts, *words[1:]]) == 0
        plan = max(outputs.glob("sweeps/*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
        found = {}
        for point in json.loads(plan.read_text())["points"]:
            folder = outputs / "points" / point["point_id"]
            found[point["label"].rpartition("/")[2]] = pq.read_table(
                folder / "generations.parquet"
            ).to_pylist()
        return found

    return points


@pytest.mark.usefixtures("one_thread")
def test_together_or_one_by_one_they_are_the_same(run: Any) -> None:
    together = run("-m", f"decoding=greedy,{GUIDED}", *TIMED)
    assert len({tuple(row["output"] for row in rows) for rows in together.values()}) > 2
    apart = run("-m", f"decoding=greedy,{GUIDED}", "timing=off", "engine.fuse=false", "engine.fresh=true")
    for name, rows in together.items():
        assert [row["output"] for row in rows] == [row["output"] for row in apart[name]], name


def job(*overrides: str) -> Job:
    rows = ["prompts=custom", "prompts.file=rows.jsonl", 'prompts.template="{context} {prompt}"']
    return prepare(one_point(["model=fable_small", *rows, *overrides]), Once())


def test_an_address_follows_what_a_prompt_is_contrasted_with() -> None:
    plain, cfg = job(), job("decoding=cfg")
    other = job("decoding=cfg", "decoding.negative_prompt=Never")
    assert len({plain.point_id, cfg.point_id, other.point_id}) == 3
    assert cfg.second_prompts["door"] == cfg.prompts[0].ids[-1:]
    assert not plain.second_prompts
    assert cfg.second_prompts["fox"] != cfg.prompts[1].ids[-1:], "its own"
    assert job("decoding=cfg", "decoding.guidance_scale=1.0").point_id == plain.point_id
    Path("rows.jsonl").write_text(Path("rows.jsonl").read_text().replace('"A"', '"B"'))
    assert job("decoding=cfg").point_id != cfg.point_id
    assert job().point_id == plain.point_id, "another column of the rows"


def test_an_address_follows_the_weights_of_the_amateur() -> None:
    found = job("decoding=contrastive_decoding")
    assert found.effective["amateur"]["id"] == "fable_tiny"
    assert found.point_id != job("decoding=contrastive_decoding", "decoding.amateur=fable_small").point_id


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["decoding=contrastive_decoding", "decoding.amateur=fable_tyni"], "did you mean fable_tiny?"),
        (["decoding=cfg", "cache=quantized_fp8"], "has no quantized cache; use cache=default"),
        (["decoding=dola", "decoding.dola_layers=[0,9]"], "decoding.dola_layers: 9: fable_small has no such"),
    ],
)
def test_what_does_not_fit_is_found_before_anything_is_loaded(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        job(*words)
    assert message in str(caught.value)


def test_an_amateur_with_another_tokenizer_is_refused(small_model: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        job("decoding=contrastive_decoding", f"decoding.amateur={small_model('llama')}")
    assert "its tokenizer is not that of fable_small; choose a smaller model of the same" in str(caught.value)


def test_an_amateur_that_does_not_load_is_its_strategys_failure(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = loading.read_model

    def broken(folder: Path, model: Any, *arguments: Any, **more: Any) -> Any:
        if model.name == "fable_tiny":
            raise HarnessError("model.id: fable_tiny does not fit")
        return read(folder, model, *arguments, **more)

    monkeypatch.setattr(loading, "read_model", broken)
    words = ["-m", *SMALL, "decoding=greedy,contrastive_decoding", "prompts.limit=1", "timing=off"]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert "fable_tiny does not fit" in printed.out + printed.err
    assert len(list((outputs / "points").glob("*/generations.parquet"))) == 1
