"""The console script as a user has it, in an empty folder: what it prints, and what store and MLflow hold."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from forked import Forked
from mlflow.entities import Run
from mlflow_runs import artifacts, runs

SWEEP = [
    "-m", "model=fable_tiny", "quantization=fp32,bnb_nf4", "decoding=greedy,top_p", "prompts.limit=2",
    "generation.max_new_tokens=6", "record.top_k=3", "engine.threads=1",
    "timing=quick", "timing.prompts=1", "timing.repeats=2", "timing.new_tokens=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def done(
    script: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Two precisions, two strategies, run in an empty folder: the folder, and the finished process."""
    folder = tmp_path_factory.mktemp("user")
    done = script(*SWEEP, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def store(done: Any) -> str:
    return f"sqlite:///{done[0] / 'outputs' / 'mlflow.db'}"


@pytest.fixture(scope="module")
def children(store: str) -> dict[str, Run]:
    return {run.data.tags["label"]: run for run in runs(store, "generation")}


def test_the_terminal_shows_table_and_links(done: Any) -> None:
    folder, process = done
    assert process.stderr == ""
    for name in ("fp32/greedy", "fp32/top_p", "bnb_nf4/greedy", "bnb_nf4/top_p"):
        assert f"done    fable_tiny/{name}" in process.stdout
    assert "harness ui   # then open" in process.stdout
    assert "viewStateShareKey=harness-" in process.stdout
    assert {path.name for path in folder.iterdir()} == {"outputs"}
    files = {path.name for path in (folder / "outputs").iterdir() if not path.name.startswith(".")}
    assert files == {"mlflow.db", "mlartifacts", "points", "sweeps", "drift"}


def test_runs_are_named_tagged_and_nested(done: Any, store: str, children: dict[str, Run]) -> None:
    (parent,) = runs(store, "sweep")
    assert parent.info.status == "FINISHED"
    assert len(children) == 4
    for label, run in children.items():
        model, quantization, decoding = label.split("/")
        tags = run.data.tags
        assert run.info.status == "FINISHED"
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["sweep_id"] == parent.data.tags["sweep_id"]
        assert (tags["kind"], tags["label"]) == ("generation", label)
        assert (tags["model"], tags["quantization"], tags["decoding"]) == (model, quantization, decoding)
        assert (done[0] / "outputs" / "points" / tags["point_id"] / "generations.parquet").is_file()
    sweep = done[0] / "outputs" / "sweeps" / f"sweep-{parent.data.tags['sweep_id']}"
    reports = {"plan.json", "summary.csv", "comparison.csv", "compare.html", "drift.json"}
    assert reports <= {path.name for path in sweep.iterdir()}
    assert {path.name for path in artifacts(parent).iterdir()} == reports


def test_metrics_are_in_their_sections(children: dict[str, Run]) -> None:
    for run in children.values():
        metrics = run.data.metrics
        sections = {name.partition("/")[0] for name in metrics}
        drift = {"drift"} if "bnb_nf4" in run.data.tags["label"] else set()
        assert sections == {"latency", "throughput", "probability", "text", "memory", "prompt"} | drift
        for name in ("ttft_p50_ms", "itl_p50_ms", "total_p50_ms"):
            assert metrics[f"latency/{name}"] > 0
        assert metrics["probability/mean_logprob"] < 0
    small, large = (
        children[f"fable_tiny/{name}/greedy"].data.metrics["memory/weights_mb"]
        for name in ("bnb_nf4", "fp32")
    )
    assert 0 < small < large


def test_params_are_the_choices_and_what_is_no_default(children: dict[str, Run]) -> None:
    params = children["fable_tiny/bnb_nf4/top_p"].data.params
    assert params["decoding.top_p"] == "0.9"
    assert params["quantization.bnb_4bit_quant_type"] == "nf4"
    assert params["generation.max_new_tokens"] == "6"
    assert (params["model"], params["quantization"]) == ("fable_tiny", "bnb_nf4")
    assert "generation.seed" not in params  # 0, the default
    assert "effective.decoding.top_p" not in params  # as requested


def test_artifacts_contain_texts_tokens_config_and_environment(children: dict[str, Run]) -> None:
    for run in children.values():
        folder = artifacts(run)
        table = json.loads((folder / "generations.json").read_text())
        assert table["columns"][0] == "prompt_id"
        outputs = [row[table["columns"].index("output")] for row in table["data"]]
        generations = pq.read_table(folder / "generations.parquet").to_pylist()
        assert outputs == [row["output"] for row in generations]
        assert len({row[0] for row in table["data"]}) == 2
        tokens = pq.read_table(folder / "tokens.parquet").to_pylist()
        assert "".join(t["token"] for t in tokens) == "".join(outputs)
        assert {len(t["top_ids"]) for t in tokens} == {3}
        timing = pq.read_table(folder / "timing.parquet").to_pylist()
        assert [t["output_tokens"] for t in timing] == [4, 4]
        page = (folder / "tokens.html").read_text()
        assert page.lower().startswith("<!doctype html>")
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert "https://" not in page
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["requested"]["decoding"]["name"] == run.data.tags["decoding"]
        assert config["effective"]["padding_side"] == "left"
        environment = json.loads((folder / "environment.json").read_text())
        assert {"torch", "transformers", "bitsandbytes"} <= environment["versions"].keys()


def test_nothing_is_inherited_silently(children: dict[str, Run]) -> None:
    """Every field of GenerationConfig that shapes the output is logged, or is a budget, an end or an id."""
    from transformers import GenerationConfig

    effective = yaml.safe_load((artifacts(children["fable_tiny/fp32/top_p"]) / "config.yaml").read_text())
    logged = effective["effective"]["decoding"].keys()
    # Logged elsewhere (budget, ends, ids), or without influence on what the model alone generates.
    elsewhere = {
        "max_length", "max_new_tokens", "stop_strings", "bos_token_id", "eos_token_id", "pad_token_id",
        "decoder_start_token_id", "transformers_version",
    }  # fmt: skip
    speed = ("cache", "compile", "batching", "low_memory", "prefill_chunk")
    drafts = ("assistant", "speculation", "lookbehind", "matching_ngram", "use_mtp")
    fields = {name for name in vars(GenerationConfig()) if not name.startswith(("_", "output_", "return_"))}
    rest = {
        name for name in fields - set(logged) - elsewhere if not any(word in name for word in speed + drafts)
    }
    assert rest == set()


def test_again_nothing_is_loaded_and_inspected_words_work(
    done: Any, store: str, children: dict[str, Run], forked: Callable[..., Forked]
) -> None:
    folder, _ = done
    again = forked(*SWEEP, folder=folder, HARNESS_OUTPUTS="")
    assert again.wait() == 0, again.stderr
    assert again.stdout.count("reused") == 4
    before = {run.info.run_id for run in children.values()}
    assert {run.info.run_id for run in runs(store, "generation")} == before
    report = forked("report", folder=folder, HARNESS_OUTPUTS="")
    assert report.wait() == 0, report.stderr
    assert "compare.html" in report.stdout
