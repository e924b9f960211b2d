"""What a GGUF file costs beside the checkpoint that it was made from: one sweep."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from gguf_models import write_gguf
from read_page import Page

from harness.analysis.drift_costs import precision_report
from harness.analysis.point_results import point_results
from harness.cli.main import main
from harness.config.point import Model, Quantization
from harness.models.load import load
from harness.store.sweeps import load_sweep

pytest.importorskip("gguf")

SHORT = [
    "-m", "generation.max_new_tokens=6", "prompts.limit=3", "timing=off", "compare.noise=false",
    "tracking=off", "engine.threads=1", "decoding=greedy",
]  # fmt: skip


@pytest.fixture
def here(small_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint, and its GGUF files."""
    (tmp_path / "original").symlink_to(small_model("llama"))
    write_gguf(small_model("llama"), tmp_path / "small.Q4_0.gguf", "Q4_0")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_drift_from_the_original(here: Path, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    write_gguf(here / "original", here / "small.F32.gguf")
    models = "model.id=./small.Q4_0.gguf,./original,./small.F32.gguf"
    assert main(["plan", *SHORT, models]) == 0
    printed = capsys.readouterr()
    told = (
        "if small.Q4_0.gguf was made from original, what that cost is computed with drift.reference=original"
    )
    assert told in " ".join(printed.out.split())
    assert printed.out.count("drift.reference=") == 1
    assert "small.Q4_0.gguf: the weights of the GGUF file (Q4_0, " in " ".join(printed.out.split())
    assert "of its tokenizer are not in the model" not in " ".join(printed.out.split())
    assert main([*SHORT, models, "drift.reference=original"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "small.Q4_0.gguf: vs. original: KL " in printed
    assert "the memory of weights" not in printed
    (plan,) = (outputs / "sweeps").glob("*/plan.json")
    sweep = load_sweep(plan.parent)
    point_of = {point.model: outputs / "points" / str(point.point_id) for point in sweep.points}
    rows = pq.read_table(point_of["small.Q4_0.gguf"] / "drift.parquet").to_pydict()
    prompts = pq.read_table(point_of["original"] / "generations.parquet").to_pylist()
    tokens = pq.read_table(point_of["original"] / "tokens.parquet").to_pylist()
    expected = []
    first, second = (
        load(Model(name="m", id=str(here / name)), Quantization(name="none"))
        for name in ("original", "small.Q4_0.gguf")
    )
    for prompt in prompts:
        ids = first.tokenizer(prompt["prompt"])["input_ids"]
        own = [one["token_id"] for one in tokens if one["prompt_id"] == prompt["prompt_id"]]
        with torch.inference_mode():
            p, q = (
                one.model(torch.tensor([[*ids, *own]])).logits[0, len(ids) - 1 : -1].double().log_softmax(-1)
                for one in (first, second)
            )
        expected += (p.exp() * (p - q)).sum(-1).tolist()
    assert rows["kl"] == pytest.approx(expected, abs=1e-5)
    assert min(expected) > 1e-4
    plain = pq.read_table(point_of["small.F32.gguf"] / "drift.parquet").to_pydict()
    assert max(plain["kl"]) < 1e-9
    assert not (point_of["original"] / "drift.parquet").exists()
    results = point_results(sweep)
    costs = {cost.model: cost for cost in precision_report(results).costs}
    assert {name: cost.reference_model for name, cost in costs.items()} == {
        "small.Q4_0.gguf": "original", "original": None, "small.F32.gguf": "original",
    }  # fmt: skip
    assert costs["small.Q4_0.gguf"].metrics["drift/kl_mean"] == pytest.approx(
        math.fsum(expected) / len(expected), rel=1e-3
    )
    page = Page((plan.parent / "compare.html").read_text(encoding="utf-8")).data["quantization"]
    shown = {cost["model"]: (cost["reference_model"], cost["stored"]) for cost in page["costs"]}
    assert shown == {
        "small.Q4_0.gguf": ("original", "Q4_0, dequantized"),
        "original": (None, None),
        "small.F32.gguf": ("original", None),
    }
    environment = json.loads((point_of["small.Q4_0.gguf"] / "environment.json").read_text())
    assert environment["model"]["stored_quantization"] == "Q4_0, dequantized"
    assert environment["versions"]["gguf"]


@pytest.mark.parametrize(
    ("reference", "means"),
    [
        ("original", "original/fp32"),
        ("./original/", "original/fp32"),
        ("original/bf16", "original/bf16"),
        ("small.Q4_0.gguf/fp32", "small.Q4_0.gguf/fp32"),
    ],
)
def test_how_a_model_is_named(here: Path, outputs: Path, reference: str, means: str) -> None:
    from harness.config import hydra_app as app
    from harness.plan.plan import Plan, make_plan

    found: list[Plan] = []
    models = ["model.id=./original,./small.Q4_0.gguf", "quantization=bf16,fp32"]

    def action(points: Any, name: str, files: Any) -> int:
        found.append(make_plan(points, name))
        return 0

    assert app.run([*SHORT, *models, f"drift.reference={reference}"], action) == 0
    labels = {job.point_id: job.point.label for job in found[0].jobs}
    assert {job.point.label: labels.get(str(job.drift.reference)) for job in found[0].jobs} == {
        label: None if label == f"{means}/greedy" else f"{means}/greedy" for label in labels.values()
    }
    assert f"{means}/greedy" in labels.values()


def test_other_tokens_are_refused(
    here: Path, outputs: Path, small_model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *SHORT, "model.id=./original,fable_tiny", "drift.reference=original"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    told = "drift.reference=original: fable_tiny and original have other tokens, which cannot be compared"
    assert line.startswith(told)
    assert main(["check", *SHORT, "model.id=./original,./small.Q4_0.gguf", "drift.reference=orignal"]) == 2
    assert capsys.readouterr().err.strip().endswith("use drift.reference=original")
    shutil.copytree(small_model("llama", chat="plain"), here / "chatty")
    write_gguf(here / "chatty", here / "chatty.gguf")
    template = here / "chatty" / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|end|>", "!"))
    models = "model.id=./chatty,./chatty.gguf"
    assert main(["check", *SHORT, models, "prompts=questions", "drift.reference=chatty"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "chatty.gguf and chatty read the prompts as other tokens; give both one model.chat_template" in line
    )
