"""Drift in a sweep: who is held against whom, what is kept, what is taken from the store, what is told."""

from __future__ import annotations

import json
import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from forked import Forked
from planned_sweep import planned

import harness.models.load as loading
from harness.cli.main import main
from harness.plan.plan import Plan
from harness.store.tables import DRIFT

BASE = [
    "-m",
    "model=fable_tiny",
    "generation.max_new_tokens=6",
    "prompts.limit=4",
    "engine.threads=1",
    "timing=off",
    "compare.noise=false",
    "tracking=off",
]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    honest = loading.load

    def counted(model: Any, quantization: Any, *arguments: Any, **keys: Any) -> Any:
        calls.append(quantization.name)
        return honest(model, quantization, *arguments, **keys)

    monkeypatch.setattr("harness.backends.hf.backend.load", counted)
    return calls


def folders(outputs: Path) -> dict[str, Path]:
    """The point folders of the last sweep, by label without the model."""
    points = json.loads(_last(outputs).read_text())["points"]
    return {p["label"].partition("/")[2]: outputs / "points" / p["point_id"] for p in points}


def metrics(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())["metrics"]


def references(plan: Plan) -> dict[str, str | None]:
    """Label of each point's reference, without the model."""
    labels = {job.point_id: job.point.label.partition("/")[2] for job in plan.jobs}
    return {
        labels[job.point_id]: labels[job.drift.reference] if job.drift.reference else None
        for job in plan.jobs
    }


def lacks(plan: Plan, name: str) -> list[bool]:
    """Whether each job of a plan lacks an artifact."""
    return [name in [artifact.name for artifact in lacking] for lacking in plan.missing]


def test_each_is_held_against_the_highest_precision() -> None:
    plan = planned(*BASE, "quantization=bnb_nf4,bf16,fp32", "decoding=greedy,top_p")
    assert references(plan) == {
        "bnb_nf4/greedy": "fp32/greedy",
        "bnb_nf4/top_p": "fp32/top_p",
        "bf16/greedy": "fp32/greedy",
        "bf16/top_p": "fp32/top_p",
        "fp32/greedy": None,
        "fp32/top_p": None,
    }
    names = [f"fable_tiny {quantization}" for quantization in ("fp32", "bnb_nf4", "bf16")]
    assert [(group.name, group.after) for group in plan.groups] == list(
        zip(names, [(), (0,), (0,)], strict=True)
    )
    assert lacks(plan, "drift") == [True] * 4 + [False] * 2
    assert lacks(plan, "reference") == [False] * 4 + [True] * 2
    assert plan.hints == ()


def test_without_a_higher_one_there_is_none_and_how_to_add_it_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = planned(*BASE, "quantization=bnb_nf4,bnb_int8", "decoding=greedy")
    assert references(plan) == {"bnb_nf4/greedy": "bnb_int8/greedy", "bnb_int8/greedy": None}
    assert plan.hints == ()
    assert main(["plan", *BASE, "quantization=bnb_nf4,bnb_fp4", "decoding=greedy"]) == 0
    hint = (
        "hint what bnb_nf4 and bnb_fp4 cost fable_tiny is computed once a higher precision is in the sweep: "
        "-m quantization=none,bnb_nf4,bnb_fp4"
    )
    assert hint in capsys.readouterr().out
    assert planned(*BASE, "quantization=fp32", "decoding=greedy").hints == ()
    assert planned(*BASE, "quantization=bnb_nf4", "decoding=greedy", "drift.enabled=false").hints == ()


def test_another_reference_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["quantization=fp32,bf16,bnb_nf4", "decoding=greedy"]
    plan = planned(*BASE, *sweep, "drift.reference=bf16")
    assert references(plan) == {
        "fp32/greedy": "bf16/greedy",
        "bf16/greedy": None,
        "bnb_nf4/greedy": "bf16/greedy",
    }
    names = [f"fable_tiny {quantization}" for quantization in ("bf16", "fp32", "bnb_nf4")]
    assert [group.name for group in plan.groups] == names
    assert [group.after for group in plan.groups] == [(), (0,), (0,)]
    assert main(["check", *BASE, *sweep, "drift.reference=fp16"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("drift.reference=fp16: no point of the sweep has this quantization or model")
    assert line.endswith("-m quantization=fp16,fp32,bf16,bnb_nf4 drift.reference=fp16")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("drift.text=nowhere.txt", "drift.text=nowhere.txt: nowhere.txt cannot be read: No such file"),
        ("drift.text=story.pdf", "must be a .txt file, or `reference`"),
        ("drift.text=reference", "no prompt has a text in a column `reference`"),
        ("drift.budget_mb=0", "drift.budget_mb=0: must be above 0"),
        ("drift.enabled=false drift.reference=fp32", "no effect with drift.enabled=false"),
    ],
)
def test_mistakes_are_one_line(override: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *BASE, "quantization=fp32", "decoding=greedy", *override.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_drift_is_a_part_of_the_held_point(outputs: Path, loads: list[str], decoded: list[int]) -> None:
    sweep = [*BASE, "quantization=fp32,bf16", "decoding=greedy,top_p,beam"]
    assert main(sweep) == 0
    assert loads == ["fp32", "bf16"]
    found = folders(outputs)
    for decoding in ("greedy", "top_p", "beam"):
        folder, reference = found[f"bf16/{decoding}"], found[f"fp32/{decoding}"]
        drift = pq.read_table(folder / "drift.parquet")
        assert drift.schema.equals(DRIFT)
        tokens = pq.read_table(reference / "tokens.parquet")
        for name in ("prompt_id", "sample", "position", "token_id", "token"):
            assert drift.column(name).equals(tokens.column(name)), name
        logprobs = zip(drift.column("logprob").to_pylist(), tokens.column("logprob").to_pylist(), strict=True)
        assert max(abs(one - other) for one, other in logprobs) < 1e-4
        assert not (reference / "drift.parquet").exists()
        assert json.loads((folder / "parts.json").read_text())["drift"]["reference"] == reference.name
        kl = drift.column("kl").to_pylist()
        said = metrics(folder)
        assert said["drift/kl_mean"] == pytest.approx(math.fsum(kl) / len(kl))
        assert 0 < said["drift/kl_mean"] < 0.01
        assert said["memory/cache_bytes_per_token"] > 0
        assert said["latency/load_seconds"] > 0
        worst = json.loads((folder / "drift.json").read_text())["worst"]
        assert worst[0]["kl"] == max(kl)
    assert not list(outputs.rglob("drift-partial"))
    assert len(list((outputs / "drift" / "heads").iterdir())) == 1
    # Nothing is made twice; one more quantization loads itself alone.
    loads.clear()
    decoded.clear()
    assert main(sweep) == 0
    assert loads == []
    assert main([*BASE, "quantization=fp32,bf16,bnb_nf4", "decoding=greedy,top_p,beam"]) == 0
    assert loads == ["bnb_nf4"]
    assert metrics(folders(outputs)["bnb_nf4/greedy"])["drift/kl_mean"] > said["drift/kl_mean"]
    # Once the store was cleaned, the reference is read again, and not decoded again.
    shutil.rmtree(folders(outputs)["fp32/greedy"] / "drift")
    loads.clear()
    decoded.clear()
    assert main([*BASE, "quantization=fp32,bnb_fp4", "decoding=greedy"]) == 0
    assert loads == ["fp32", "bnb_fp4"]
    assert decoded == [4]


def test_points_that_were_there_before_are_held_against_a_new_reference(
    outputs: Path, loads: list[str], decoded: list[int]
) -> None:
    assert main([*BASE, "quantization=bf16", "decoding=greedy"]) == 0
    assert "drift/kl_mean" not in metrics(folders(outputs)["bf16/greedy"])
    decoded.clear()
    assert main([*BASE, "quantization=bf16,fp32", "decoding=greedy"]) == 0
    assert loads == ["bf16", "fp32", "bf16"]
    assert decoded == [4], "the reference's samples alone"
    assert metrics(folders(outputs)["bf16/greedy"])["drift/same_top"] > 0.9


def test_the_same_weights_have_no_drift(outputs: Path) -> None:
    """`none` of a float32 checkpoint is fp32 by another name."""
    sweep = [*BASE, "quantization=none,fp32", "decoding=greedy,temperature", "drift.reference=none"]
    assert main(sweep) == 0
    for decoding in ("greedy", "temperature"):
        folder = folders(outputs)[f"fp32/{decoding}"]
        drift = pq.read_table(folder / "drift.parquet")
        assert set(drift.column("kl").to_pylist()) == {0.0}
        assert drift.column("rank").equals(drift.column("drift_rank"))
        assert drift.column("logprob").equals(drift.column("drift_logprob"))
        said = metrics(folder)
        assert (said["drift/kl_max"], said["drift/same_top"], said["drift/perplexity_ratio"]) == (
            0.0,
            1.0,
            1.0,
        )
        assert said["drift/parted"] == 0.0


@pytest.fixture
def small_sweep(small_model: Callable[..., Path]) -> list[str]:
    """Four strategies x four prompts x 48 tokens; the head takes 384 x 64 float32, a position 256 bytes."""
    return [
        *BASE, "model=custom", f"model.id={small_model('llama')}", "quantization=fp32,bf16",
        "decoding=greedy,temperature,top_p,min_p", "generation.ignore_eos=true",
        "generation.max_new_tokens=48",
        "prompts=custom", "prompts.items=[It was, A list, Portugal is, Once upon]",
    ]  # fmt: skip


HEAD, ROW = 384 * 64 * 4, 64 * 4


def test_a_small_budget_says_what_it_left_out(outputs: Path, small_sweep: list[str]) -> None:
    """Half of the positions have room, so each strategy has the first two of its four texts."""
    budget = HEAD + 4 * 2 * 48 * ROW
    assert main([*small_sweep, f"drift.budget_mb={budget / 2**20}"]) == 0
    held_points = [folder for label, folder in folders(outputs).items() if "bf16" in label]
    for folder in held_points:
        assert pq.read_metadata(folder / "drift.parquet").num_rows == 2 * 48
        part = json.loads((folder / "parts.json").read_text())["drift"]
        assert (part["kind"], part["texts"], part["left_out"], part["whole"]) == ("hidden", 2, 2, False)
    plan = json.loads(next((outputs / "sweeps").glob("*/plan.json")).read_text())
    told = "drift covers 2 of 4 outputs; drift.budget_mb has no room for more"
    assert sum(told in point["warnings"] for point in plan["points"]) == 4
    files = [*outputs.glob("drift/heads/*"), *outputs.glob("points/*/drift/*.safetensors")]
    assert sum(path.stat().st_size for path in files) <= budget + 200 * len(files)  # their headers
    assert main([*small_sweep, f"drift.budget_mb={budget / 2**20}"]) == 0
    assert {point["status"] for point in json.loads((_last(outputs)).read_text())["points"]} == {"reused"}
    assert main(small_sweep) == 0
    assert all(pq.read_metadata(folder / "drift.parquet").num_rows == 4 * 48 for folder in held_points)


def test_a_smaller_one_keeps_the_likeliest_tokens(outputs: Path, small_sweep: list[str]) -> None:
    small_sweep = [*small_sweep, "decoding=min_p"]
    assert main([*small_sweep, f"drift.budget_mb={HEAD * 1.4 / 2**20}"]) == 0
    folder = next(folder for label, folder in folders(outputs).items() if "bf16/min_p" in label)
    table = pq.read_table(folder / "drift.parquet")
    assert table.num_rows == 4 * 48
    bounded, error = table.column("kl").to_numpy(), table.column("kl_error").to_numpy()
    assert error.max() > 0
    files = list(outputs.glob("points/*/drift/*.safetensors"))
    assert sum(path.stat().st_size for path in files) <= HEAD * 1.4 + 1000 * len(files)
    plan = json.loads(_last(outputs).read_text())
    assert sum("kl_error bounds what that changes" in str(point["warnings"]) for point in plan["points"]) == 1
    assert metrics(folder)["drift/kl_error"] == pytest.approx(error.mean())
    assert main(small_sweep) == 0, "a larger budget takes the place of a smaller one"
    exact = pq.read_table(folder / "drift.parquet").column("kl").to_numpy()
    assert (abs(bounded - exact) <= error + 1e-5).all()


def _last(outputs: Path) -> Path:
    return max((outputs / "sweeps").glob("*/plan.json"), key=lambda path: path.stat().st_mtime_ns)


def test_a_fixed_text(outputs: Path, tmp_path: Path) -> None:
    text = tmp_path / "tale.txt"
    text.write_text("Once upon a time, a fox named Otto lived in the forest. " * 60, encoding="utf-8")
    sweep = [*BASE, "quantization=fp32,bnb_nf4", "decoding=greedy,top_p", f"drift.text={text}"]
    assert main(sweep) == 0
    found = folders(outputs)
    plan = planned(*BASE, "quantization=fp32", "decoding=greedy", f"drift.text={text}")
    passages = plan.jobs[0].drift.fixed_text.text.passages  # type: ignore[union-attr]
    assert len(passages) > 1
    from harness.config.point import Model, Quantization

    loaded = loading.load(
        Model(name="fable_tiny", id="fable_tiny", device="cpu"), Quantization(name="x", dtype="float32")
    )
    total, count = 0.0, 0
    with torch.inference_mode():
        for passage in passages:
            log_p = loaded.model(torch.tensor([passage.ids])).logits[0].double().log_softmax(-1)
            told = range(passage.first_target, len(passage.ids))
            total += math.fsum(float(log_p[place - 1, passage.ids[place]]) for place in told)
            count += len(told)
    assert count > 500
    said = {label: metrics(folder) for label, folder in found.items()}
    for decoding in ("greedy", "top_p"):
        assert said[f"fp32/{decoding}"]["drift/text_perplexity"] == pytest.approx(math.exp(-total / count))
        bits = -total / math.log(2) / len(text.read_bytes())
        assert said[f"fp32/{decoding}"]["drift/text_bits_per_byte"] == pytest.approx(bits, rel=1e-4)
        held_point = said[f"bnb_nf4/{decoding}"]
        assert held_point["drift/text_perplexity_ratio"] == pytest.approx(
            held_point["drift/text_perplexity"] / math.exp(-total / count), rel=1e-4
        )
        assert pq.read_metadata(found[f"bnb_nf4/{decoding}"] / "drift_text.parquet").num_rows == count
    assert main(["plan", *sweep]) == 0


def test_the_prompts_own_references(outputs: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [
        {"id": "a", "prompt": "Once upon a time, a fox", "reference": "named Otto lived in the forest."},
        {"id": "b", "prompt": "Nobody in the village believed", "reference": " the old owl."},
        {"id": "c", "prompt": "The science lecture"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sweep = [
        *BASE,
        "quantization=fp32,bf16",
        "decoding=greedy",
        f"prompts.file={file}",
        "drift.text=reference",
    ]
    assert main(sweep) == 0
    table = pq.read_table(folders(outputs)["bf16/greedy"] / "drift_text.parquet").to_pylist()
    texts: dict[str, str] = {}
    for row in table:
        texts[row["prompt_id"]] = texts.get(row["prompt_id"], "") + row["token"]
    assert texts == {"a": " named Otto lived in the forest.", "b": " the old owl."}


KILLED = """
import os, signal, sys
from harness.cli.main import main
_, name, *words = sys.argv
honest = os.replace
def replace(old, new):
    if name in str(new):
        os.kill(os.getpid(), signal.SIGKILL)
    honest(old, new)
os.replace = replace
sys.exit(main(words))
"""


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", ["drift/index.json", "drift-partial/000000.parquet", "/drift.parquet"])
def test_a_sweep_killed_in_the_middle_of_it_is_gone_on_with(
    forked: Callable[..., Forked], outputs: Path, tmp_path: Path, name: str
) -> None:
    words = [*BASE, "quantization=fp32,bf16", "decoding=greedy"]
    calm = tmp_path / "calm"
    assert forked(*words, HARNESS_OUTPUTS=str(calm)).wait() == 0
    killed = forked(name, *words, code=KILLED)
    assert killed.wait() == -signal.SIGKILL, killed.stdout + killed.stderr
    again = forked(*words)
    assert again.wait() == 0, again.stdout + again.stderr
    for path in calm.glob("points/*/drift*.parquet"):
        other = outputs / path.relative_to(calm)
        assert pq.read_table(other).equals(pq.read_table(path))
    assert not list(outputs.rglob("drift-partial"))
