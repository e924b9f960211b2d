"""A sweep from its points to the store and MLflow: what is run, what is taken from the store, what fails."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import harness.models.load as loading
from harness.analysis.metric_catalog import METRICS
from harness.backends.hf.tree import decode_tree
from harness.cli.main import main
from harness.store.tables import GENERATIONS, PROMPT_TOKENS, TIMING, TOKENS

BASE = [
    "model=fable_tiny",
    "quantization=fp32",
    "generation.max_new_tokens=6",
    "prompts.limit=2",
    "engine.threads=1",
    "timing=off",
    "compare.noise=false",
    "tracking=off",
]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were loaded, one entry a load."""
    calls: list[str] = []
    honest = loading.load

    def counted(model: Any, quantization: Any, *arguments: Any, **keys: Any) -> Any:
        calls.append(f"{model.name}/{quantization.name}")
        return honest(model, quantization, *arguments, **keys)

    monkeypatch.setattr("harness.backends.hf.backend.load", counted)
    return calls


def last_plan(outputs: Path) -> dict[str, Any]:
    plans = sorted((outputs / "sweeps").glob("*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(plans[-1].read_text())


def statuses(outputs: Path) -> list[str]:
    return [point["status"] for point in last_plan(outputs)["points"]]


def folder_of(outputs: Path, place: int = 0) -> Path:
    return outputs / "points" / last_plan(outputs)["points"][place]["point_id"]


def test_one_load_a_group_and_nothing_twice(outputs: Path, loads: list[str]) -> None:
    sweep = ["-m", *BASE, "model=fable_tiny,fable_small", "decoding=greedy,top_p,beam"]
    assert main(sweep) == 0
    assert sorted(loads) == ["fable_small/fp32", "fable_tiny/fp32"]
    assert statuses(outputs) == ["done"] * 6
    loads.clear()
    assert main(sweep) == 0
    assert loads == []
    assert statuses(outputs) == ["reused"] * 6
    assert main(["-m", *BASE, "decoding=greedy,min_p"]) == 0
    assert statuses(outputs) == ["reused", "done"]
    assert loads == ["fable_tiny/fp32"]


def test_the_files_of_a_point(outputs: Path) -> None:
    assert main([*BASE, "decoding=top_p", "record.prompt_logprobs=true", "record.top_k=3", "timing=quick",
                 "timing.prompts=1", "timing.repeats=1", "timing.new_tokens=4"]) == 0  # fmt: skip
    folder = folder_of(outputs)
    schemas = {"generations": GENERATIONS, "tokens": TOKENS, "prompt_tokens": PROMPT_TOKENS, "timing": TIMING}
    tables = {name: pq.read_table(folder / f"{name}.parquet") for name in schemas}
    for name, schema in schemas.items():
        own = pa.schema([field for field in tables[name].schema if field.name in schema.names])
        assert own.equals(schema), name
    measured = {
        str(metric.per_sample) for metric in METRICS if metric.key.startswith(("probability", "text"))
    }
    added = set(tables["generations"].column_names) - set(GENERATIONS.names)
    assert added == measured - {"self_bleu", *GENERATIONS.names}
    assert tables["generations"].num_rows == 2
    assert tables["timing"].num_rows == 1
    generations = tables["generations"].to_pylist()
    tokens = tables["tokens"].to_pylist()
    for row in generations:
        own = [token for token in tokens if token["prompt_id"] == row["prompt_id"]]
        assert [token["position"] for token in own] == list(range(row["output_tokens"]))
        assert "".join(token["token"] for token in own) == row["output"]
        assert all(len(token["top_ids"]) == len(token["top_tokens"]) == 3 for token in own)
        scored = [t for t in tables["prompt_tokens"].to_pylist() if t["prompt_id"] == row["prompt_id"]]
        assert len(scored) == row["prompt_tokens"]
        assert "".join(token["token"] for token in scored) == row["prompt"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["requested"]["decoding"] == {"name": "top_p", "do_sample": True, "top_p": 0.9}
    assert config["effective"]["decoding"]["top_k"] == 0
    assert config["effective"]["padding_side"] == "left"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {name.partition("/")[0] for name in metrics["metrics"]} == {
        "latency", "throughput", "probability", "text", "memory",
    }  # fmt: skip
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"]


def test_only_what_is_missing_is_computed(outputs: Path, loads: list[str], decoded: list[int]) -> None:
    assert main([*BASE, "decoding=greedy"]) == 0
    before = pq.read_table(folder_of(outputs) / "tokens.parquet")
    quick = ["timing=quick", "timing.prompts=1", "timing.repeats=1", "timing.new_tokens=3"]
    assert main([*BASE, "decoding=greedy", *quick]) == 0
    assert main([*BASE, "decoding=greedy", *quick, "record.prompt_logprobs=true"]) == 0
    assert decoded == [2], "timing and prompt scores need no new samples"
    assert len(loads) == 3
    assert {path.name for path in folder_of(outputs).iterdir()} >= {"timing.parquet", "prompt_tokens.parquet"}
    assert main([*BASE, "decoding=greedy", "record.top_k=2"]) == 0
    assert statuses(outputs) == ["reused"], "what was recorded more deeply serves"
    assert main([*BASE, "decoding=greedy", "record.top_k=9"]) == 0
    assert decoded == [2, 2], "a deeper recording is made anew"
    after = pq.read_table(folder_of(outputs) / "tokens.parquet")
    assert after.column("token_id").equals(before.column("token_id"))
    assert len(after.column("top_ids")[0]) == 9
    assert main([*BASE, "decoding=greedy", "engine.fresh=true"]) == 0
    assert decoded == [2, 2, 2]


def test_fused_or_not_the_samples_are_the_same(outputs: Path) -> None:
    sweep = ["-m", *BASE, "decoding=greedy,top_p,min_p,repetition_penalty", "generation.samples=1"]
    assert main(sweep) == 0
    points = [point["point_id"] for point in last_plan(outputs)["points"]]
    fused = [pq.read_table(outputs / "points" / point / "generations.parquet") for point in points]
    assert main([*sweep, "engine.fuse=false", "engine.fresh=true"]) == 0
    assert [point["point_id"] for point in last_plan(outputs)["points"]] == points
    for table, point in zip(fused, points, strict=True):
        alone = pq.read_table(outputs / "points" / point / "generations.parquet")
        assert alone.column("output").equals(table.column("output"))


@pytest.mark.parametrize("fuse", ["true", "false"])
def test_a_point_that_fails_fails_alone(
    fuse: str, outputs: Path, no_penalties: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["-m", *BASE, f"engine.fuse={fuse}", "decoding=greedy,repetition_penalty,top_p"]
    with no_penalties(ValueError):
        assert main(sweep) == 1
    assert statuses(outputs) == ["done", "failed", "done"]
    point = last_plan(outputs)["points"][1]
    assert point["error"] == "ValueError: no luck today"
    assert "Traceback" in point["traceback"]
    assert "no luck today" in capsys.readouterr().out
    assert main(sweep) == 0
    assert statuses(outputs) == ["reused", "done", "reused"]


def test_too_little_memory_costs_time_or_a_point_and_never_the_sweep(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["-m", *BASE, "decoding=greedy,top_p,temperature"]
    assert main(sweep) == 0
    plenty = [pq.read_table(folder_of(outputs, place) / "generations.parquet") for place in range(3)]
    sizes: list[int] = []

    def scarce(loaded: Any, texts: Any, *rest: Any, **more: Any) -> Any:
        sizes.append(len(texts))
        if len(texts) > 2 or any(text.strategy.effective["top_p"] == 0.9 for text in texts):
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
        return decode_tree(loaded, texts, *rest, **more)

    monkeypatch.setattr("harness.backends.hf.tree.decode_tree", scarce)
    assert main([*sweep, "engine.fresh=true"]) == 1
    assert statuses(outputs) == ["done", "failed", "done"]
    assert max(sizes) > 2
    error = last_plan(outputs)["points"][1]["error"]
    assert error.startswith("out of memory on cpu with a single request: its KV cache takes up to ")
    assert "generation.max_new_tokens=" in error
    assert "Tried to allocate" in last_plan(outputs)["points"][1]["traceback"]
    for place in (0, 2):
        again = pq.read_table(folder_of(outputs, place) / "generations.parquet")
        assert again.column("output").equals(plenty[place].column("output"))


def test_a_model_that_does_not_load_fails_alone(outputs: Path, small_model: Callable[..., Path]) -> None:
    models = f"model.id={small_model('llama', fits=False)},{small_model('llama')}"
    assert main(["-m", *BASE[1:], "model=custom", models, "decoding=greedy,top_p"]) == 1
    assert statuses(outputs) == ["failed", "failed", "done", "done"]


def test_addresses_tell_what_samples_depend_on(outputs: Path) -> None:
    from harness.config import hydra_app as app
    from harness.plan.plan import make_plan

    def address(*overrides: str) -> str:
        found: list[str] = []

        def action(points: Any, name: str, files: Any) -> int:
            found.extend(job.point_id for job in make_plan(points, name).jobs)
            return 0

        assert app.run([*BASE, "decoding=top_p", *overrides], action) == 0
        return found[0]

    plain = address()
    same = [
        "timing=quick", "record.top_k=9", "tracking=mlflow", "engine.fuse=false", "engine.batch_rows=1",
        "record.prompt_logprobs=true",
    ]  # fmt: skip
    assert {address(change) for change in same} == {plain}
    other = [
        "model=fable_small", "quantization=bf16", "prompts.limit=1", "decoding.top_p=0.8", "decoding=greedy",
        "generation.max_new_tokens=7", "generation.seed=1", "generation.samples=2",
        "generation.stop_strings=[x]", "generation.ignore_eos=true", "prompts=seed_notebook",
        "model.attention=eager", "prompts.chat=true",
    ]  # fmt: skip
    ids = [address(change) for change in other]
    assert len({plain, *ids}) == len(other) + 1


def test_nothing_is_inherited_from_the_models_own_file(
    outputs: Path, small_model: Callable[..., Path]
) -> None:
    wild = {"do_sample": True, "top_k": 5, "repetition_penalty": 1.9, "temperature": 3.0, "max_length": 9}
    outputs_of = []
    for folder in (small_model("qwen2"), small_model("qwen2", generation=wild)):
        assert main([*BASE[1:], "model=custom", f"model.id={folder}", "decoding=greedy",
                     "engine.fresh=true"]) == 0  # fmt: skip
        table = pq.read_table(folder_of(outputs) / "generations.parquet")
        outputs_of.append((table.column("output").to_pylist(), table.column("output_tokens").to_pylist()))
    assert outputs_of[0] == outputs_of[1]
    config = yaml.safe_load((folder_of(outputs) / "config.yaml").read_text())
    assert config["effective"]["model_generation_config"]["repetition_penalty"] == 1.9
    assert config["effective"]["decoding"]["repetition_penalty"] == 1.0


def test_points_that_differ_in_timing_only_share_their_samples(outputs: Path) -> None:
    assert main(["-m", *BASE, "decoding=greedy", "record.top_k=1,4"]) == 0
    assert statuses(outputs) == ["done", "done"]
    assert len({point["point_id"] for point in last_plan(outputs)["points"]}) == 1
    assert len(pq.read_table(folder_of(outputs) / "tokens.parquet").column("top_ids")[0]) == 4


def test_warnings_are_told_and_kept(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BASE, "decoding=greedy", "prompts=custom", "prompts.items=[Portugal is]"]) == 0
    assert "chat template" in capsys.readouterr().out
    assert "chat template" in last_plan(outputs)["points"][0]["warnings"][0]


def test_plan_tells_and_loads_nothing(
    outputs: Path, loads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["-m", *BASE, "decoding=greedy,beam"]
    assert main(["plan", *sweep]) == 0
    said = capsys.readouterr().out
    assert "2 points, 0 in the store already; 1 model load and at most 24 tokens to come" in said
    assert loads == []
    assert not (outputs / "sweeps").exists()
    assert main([*BASE, "decoding=greedy"]) == 0
    capsys.readouterr()
    assert main(["plan", *sweep]) == 0
    assert "1 in the store already; 1 model load and at most 12 tokens" in capsys.readouterr().out
    assert main(["check", *sweep]) == 0
    assert "2 points in 1 group, 2 prompts: OK" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("-1", "record.top_k=-1: must be at least 0"),
        ("2.5", "record.top_k=2.5: must be a whole number from 0"),
        ("3000", "record.top_k=3000: fable_tiny has a vocabulary of 2048 tokens; take at most that many"),
    ],
)
def test_alternatives_are_as_many_as_there_can_be(
    outputs: Path, capsys: pytest.CaptureFixture[str], value: str, told: str
) -> None:
    assert main([*BASE, "decoding=greedy", f"record.top_k={value}"]) == 2
    assert capsys.readouterr().err.splitlines() == [told]
    assert not outputs.exists()


def test_without_alternatives_all_else_is_recorded_as_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks, entropies and masses do not hang on them; a whole vocabulary of them sums to 1."""
    tables = {}
    for top_k in (0, 5, 2048):
        monkeypatch.setenv("HARNESS_OUTPUTS", str(tmp_path / str(top_k)))
        assert main(["-m", *BASE, "decoding=temperature,top_p,beam", f"record.top_k={top_k}"]) == 0
        files = sorted((tmp_path / str(top_k)).glob("points/*/tokens.parquet"))
        tables[top_k] = [row for file in files for row in pq.read_table(file).to_pylist()]
    alternatives = ("top_ids", "top_tokens", "top_logprobs", "top_warped_logprobs")
    for none, some, whole in zip(*tables.values(), strict=True):
        assert [len(none[name]) for name in alternatives] == [0] * 4
        assert [len(whole[name]) for name in alternatives] == [2048] * 4
        assert whole["top_ids"][:5] == some["top_ids"]
        assert sum(map(math.exp, whole["top_logprobs"])) == pytest.approx(1, abs=1e-4)
        for row in (none, some, whole):
            for name in alternatives:
                del row[name]
        assert none == some == whole


def test_hydras_files_lie_in_the_sweeps_folder(outputs: Path) -> None:
    commands = {
        ".hydra/overrides.yaml": [*BASE, "decoding=greedy"],
        "multirun.yaml": ["-m", *BASE, "decoding=greedy,top_p"],
    }
    for words in commands.values():
        for word in ("plan", "check"):
            assert main([word, *words]) == 0
    assert not outputs.exists()
    for path, words in commands.items():
        for _ in range(2):
            assert main(words) == 0
        folder = outputs / "sweeps" / f"sweep-{last_plan(outputs)['sweep_id']}"
        assert (folder / path).is_file()
        assert not list(folder.rglob("*.part"))


def test_the_noise_floor_is_measured_once_a_group_and_decodes_nothing(
    outputs: Path, decoded: list[int]
) -> None:
    timed = ["timing=quick", "timing.prompts=1", "timing.repeats=2", "timing.new_tokens=4"]
    sweep = ["-m", *BASE, "compare.noise=true", *timed, "decoding=beam,greedy,top_p"]
    assert main(sweep) == 0
    beam, greedy, top_p = (folder_of(outputs, place) for place in range(3))
    assert not (beam / "noise.json").exists()
    assert not (top_p / "noise.json").exists()
    assert json.loads((greedy / "noise.json").read_text())["metrics"]["latency/itl_p50_ms"] > 0
    assert decoded[-1:] == [4], "the family, once"
    decoded.clear()
    assert main(sweep) == 0
    assert decoded == []
    # A sweep of one compares nothing.
    assert main([*BASE, "compare.noise=true", *timed, "decoding=min_p"]) == 0
    assert not (folder_of(outputs) / "noise.json").exists()
    assert main(["-m", *BASE, "compare.noise=true", *timed, "decoding=min_p,top_k"]) == 0
    assert (folder_of(outputs) / "noise.json").exists()
    assert decoded == [2, 2]
