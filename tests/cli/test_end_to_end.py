"""The console script as a user has it: real processes, real models, the default MLflow store.

What must be told is asked of `harness check` on real files, in this process for speed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from harness.cli import main

SCRIPT = [str(Path(sys.executable).with_name("harness"))]
SWEEP = [
    "-m", "model=fable_tiny", "quantization=fp32,bnb_nf4", "decoding=greedy,top_p", "prompts.limit=2",
    "generation.max_new_tokens=6", "record.top_k=3", "engine.threads=1",
    "timing=quick", "timing.prompts=1", "timing.repeats=2", "timing.new_tokens=4",
]  # fmt: skip


def harness(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the console script in `folder`, its outputs where a user would have them."""
    return subprocess.run(
        [*SCRIPT, *words],
        cwd=folder,
        env={**_world(), **environment},
        capture_output=True,
        text=True,
        timeout=180,
    )


def _world() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("HARNESS_OUTPUTS", "COLUMNS")}


def runs(outputs: Path, kind: str) -> list[Run]:
    client = MlflowClient(f"sqlite:///{outputs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("harness")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], f"tags.kind = '{kind}'")


def files(run: Run) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Two precisions, two strategies, run in an empty folder: the folder, and what the process said."""
    folder = tmp_path_factory.mktemp("user")
    done = harness(*SWEEP, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def children(done: Any) -> dict[str, Run]:
    return {run.info.run_name: run for run in runs(done[0] / "outputs", "generation")}


def test_the_terminal_shows_table_and_links(done: Any) -> None:
    folder, told = done
    assert told.stderr == ""
    for name in ("fp32/greedy", "fp32/top_p", "bnb_nf4/greedy", "bnb_nf4/top_p"):
        assert f"done    fable_tiny/{name}" in told.stdout
    assert "harness ui   # then open one of these" in told.stdout
    assert "compareRunsMode=ARTIFACT" in told.stdout
    assert {path.name for path in folder.iterdir()} == {"outputs"}
    kept = {path.name for path in (folder / "outputs").iterdir() if not path.name.startswith(".")}
    assert kept == {"mlflow.db", "mlartifacts", "points", "sweeps"}


def test_runs_are_named_tagged_and_nested(done: Any, children: dict[str, Run]) -> None:
    (parent,) = runs(done[0] / "outputs", "sweep")
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
    assert {"plan.json", "summary.csv", "compare.html"} <= {path.name for path in sweep.iterdir()}
    assert {path.name for path in files(parent).iterdir()} == {"plan.json", "summary.csv", "compare.html"}


def test_metrics_stand_in_their_sections(children: dict[str, Run]) -> None:
    for run in children.values():
        metrics = run.data.metrics
        sections = {name.partition("/")[0] for name in metrics}
        assert sections == {"latency", "throughput", "probability", "text", "memory", "prompt"}
        for name in ("ttft_p50_ms", "itl_p50_ms", "itl_p95_ms", "total_p50_ms"):
            assert metrics[f"latency/{name}"] > 0
        assert metrics["probability/mean_logprob"] < 0
    small, large = (
        children[f"fable_tiny/{name}/greedy"].data.metrics["memory/weights_mb"]
        for name in ("bnb_nf4", "fp32")
    )
    assert 0 < small < large


def test_params_are_the_config_flattened(children: dict[str, Run]) -> None:
    params = children["fable_tiny/bnb_nf4/top_p"].data.params
    assert params["decoding.top_p"] == "0.9"
    assert params["quantization.bnb_4bit_quant_type"] == "nf4"
    assert params["generation.max_new_tokens"] == "6"
    assert params["effective.decoding.top_k"] == "0"


def test_artifacts_hold_texts_tokens_config_and_environment(children: dict[str, Run]) -> None:
    for run in children.values():
        folder = files(run)
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
    """Every field of GenerationConfig that shapes a text is told, or is a budget, an end or an id."""
    from transformers import GenerationConfig

    effective = yaml.safe_load((files(children["fable_tiny/fp32/top_p"]) / "config.yaml").read_text())
    told = effective["effective"]["decoding"].keys()
    # Told elsewhere (budget, ends, ids), or without a say in what is generated by the model alone.
    elsewhere = {
        "max_length", "max_new_tokens", "stop_strings", "bos_token_id", "eos_token_id", "pad_token_id",
        "decoder_start_token_id", "transformers_version",
    }  # fmt: skip
    speed = ("cache", "compile", "batching", "low_memory", "prefill_chunk")
    drafts = ("assistant", "speculation", "lookbehind", "matching_ngram", "use_mtp")
    fields = {name for name in vars(GenerationConfig()) if not name.startswith(("_", "output_", "return_"))}
    rest = {
        name for name in fields - set(told) - elsewhere if not any(part in name for part in speed + drafts)
    }
    assert rest == set()


def test_again_nothing_is_loaded_and_inspected_words_work(done: Any) -> None:
    folder, _ = done
    before = {run.info.run_id for run in runs(folder / "outputs", "generation")}
    again = harness(*SWEEP, folder=folder)
    assert again.returncode == 0
    assert again.stdout.count("reused") == 4
    assert {run.info.run_id for run in runs(folder / "outputs", "generation")} == before
    report = harness("report", folder=folder)
    assert report.returncode == 0, report.stderr
    assert "compare.html" in report.stdout


def test_status_1_when_a_point_fails_and_the_rest_is_kept(
    small_model: Callable[..., Path], tmp_path: Path
) -> None:
    broken, folder = tmp_path / "broken", tmp_path / "user"
    folder.mkdir()
    shutil.copytree(small_model("llama"), broken)
    config = json.loads((broken / "config.json").read_text())
    config["intermediate_size"] *= 2  # the weights no longer fit it
    (broken / "config.json").write_text(json.dumps(config))
    words = ["-m", "model=custom", f"model.id={broken},{small_model('llama')}", "prompts.limit=1"]
    done = harness(*words, "generation.max_new_tokens=4", "timing=off", "tracking=off", folder=folder)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "1/2 failed" in done.stdout
    assert "2/2 done" in done.stdout
    assert len(list((folder / "outputs" / "points").glob("*/generations.parquet"))) == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_a_sweep(
    number: signal.Signals, status: int, migrated: Path, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    shutil.copyfile(migrated, outputs / "mlflow.db")
    words = [
        "-m", "model=fable_tiny", "quantization=fp32", "decoding=top_p", "engine.fuse=false",
        "generation.seed=range(0,200)", "generation.max_new_tokens=64", "engine.threads=1", "timing=off",
    ]  # fmt: skip
    process = subprocess.Popen(
        [*SCRIPT, *words],
        cwd=tmp_path,
        env={**_world(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(number)
        told, complained = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "1/200 done" in first
    assert process.returncode == status, complained
    assert "Traceback" not in told + complained
    assert complained.strip().endswith("interrupted")
    assert "of 200 points are kept; the same command goes on from here" in told
    (parent,) = runs(outputs, "sweep")
    assert parent.info.status == "KILLED"
    children = runs(outputs, "generation")
    assert {run.info.status for run in children} == {"FINISHED"}
    assert 1 <= len(children) < 200
    plan = json.loads(next((outputs / "sweeps").glob("*/plan.json")).read_text())
    statuses = [point["status"] for point in plan["points"]]
    assert set(statuses) == {"done", "interrupted"}
    assert not list(outputs.rglob("*.part"))


# What must be told, and how.


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`told("decoding=top_p", ...)`: exit status, lines on stderr, and stdout of `harness check`."""
    monkeypatch.chdir(tmp_path)

    def check(*words: str) -> tuple[int, list[str], str]:
        status = main(["check", "model=fable_tiny", *words])
        printed = capsys.readouterr()
        return status, printed.err.splitlines(), " ".join(printed.out.split())

    return check


LONG = f"prompts.items=['{'word ' * 600}']"


@pytest.mark.parametrize(
    ("words", "named", "cure"),
    [
        (["decoding.temperature=0.7"], "decoding.temperature=0.7", "no effect without do_sample=true"),
        (["decoding.top_k=3"], "decoding.top_k=3", "no effect without do_sample=true"),
        (["decoding=beam", "decoding.top_p=0.3"], "decoding.top_p=0.3", "no effect without do_sample=true"),
        (["decoding=temperature", "decoding.temperature=0"], "decoding.temperature=0", "decoding=greedy"),
        (["decoding=top_p", "decoding.top_p=1.5"], "decoding.top_p=1.5", "at most 1"),
        (["decoding=min_p", "decoding.min_p=-1"], "decoding.min_p=-1", "at least 0"),
        (["decoding=beam", "decoding.num_beams=0"], "decoding.num_beams=0", "at least 1"),
        (["decoding=temperature", "decoding.temperature=hot"], "decoding.temperature=hot", "a number"),
        (["decoding.temprature=1"], "decoding.temprature=1", "did you mean decoding.temperature?"),
        (["+decoding.temprature=1"], "+decoding.temprature=1", "did you mean decoding.temperature?"),
        (["decoding=gredy"], "decoding=gredy", "did you mean greedy?"),
        (["generation.max_length=9"], "generation.max_length=9", "generation.max_new_tokens"),
        (["+decoding.max_length=9"], "+decoding.max_length=9", "counts the prompt too"),
        (["generation.samples=2"], "generation.samples=2", "they would be copies"),
        (["decoding=beam", "generation.samples=2"], "generation.samples=2", "they would be copies"),
        (["prompts=custom", LONG], "603 tokens + 64 new ones > the model's 512", "truncate_left or split"),
        (["prompts=custom", "prompts.items=[]"], "prompts.items=[]", "give at least one"),
        (["prompts=custom", "prompts.items=['']"], "prompts.items[0]", "the prompt is empty"),
        (["model=custom", "model.id=/nowhere/at/all"], "'/nowhere/at/all'", "there is no folder"),
        (["model=custom", "model.id=nobody/nothing"], "'nobody/nothing'", "HF_HUB_OFFLINE=1 forbids"),
        (["model.device=cuda:9"], "model.device: 'cuda:9'", "there are: auto, cpu"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_mistake_names_key_value_and_cure(told: Any, words: list[str], named: str, cure: str) -> None:
    status, lines, _ = told(*words)
    assert status == 2
    (line,) = lines
    assert named in line
    assert cure in line


@pytest.mark.parametrize(
    ("name", "content", "words", "named", "cure"),
    [
        ("bad.jsonl", '{"prompt": "a"}\n{"prompt": oops\n', [], "bad.jsonl:2", "is no JSON"),
        ("two.jsonl", '{"id": "a", "prompt": "x"}\n' * 2, [], "two.jsonl:2", "taken already by two.jsonl:1"),
        ("blank.csv", "id,prompt\na,x\nb,  \n", [], "blank.csv:3", "the prompt is empty"),
        ("empty.txt", "\n\n", [], "empty.txt", "give at least one"),
        ("rows.csv", "id,prompt\na,x\n", ["prompts.template='{name}: {prompt}'"], "rows.csv:2", "{name}"),
    ],
)
def test_a_mistake_in_a_file_names_its_line(
    told: Any, tmp_path: Path, name: str, content: str, words: list[str], named: str, cure: str
) -> None:
    (tmp_path / name).write_text(content)
    status, lines, _ = told("prompts=custom", f"prompts.file={name}", *words)
    assert status == 2
    (line,) = lines
    assert line.startswith(named)
    assert cure in line


@pytest.mark.parametrize("cure", ["truncate_left", "split"])
def test_too_long_prompts_can_be_cut_or_split_and_it_is_said(told: Any, cure: str) -> None:
    status, lines, out = told("prompts=custom", LONG, f"prompts.too_long={cure}")
    assert (status, lines) == (0, [])
    assert (
        f"was {'cut on the left to 448 tokens' if cure == 'truncate_left' else 'split into 2 pieces'}" in out
    )


def test_chat_templates_missing_and_unused(told: Any, small_model: Callable[..., Path]) -> None:
    status, (line,), _ = told("model=custom", f"model.id={small_model('llama')}", "prompts=questions")
    assert status == 2
    assert "has no chat template" in line
    assert "model.chat_template" in line
    status, lines, out = told("prompts=custom", "prompts.items=[hello]")
    assert (status, lines) == (0, [])
    assert "warning prompts.chat: fable_tiny has a chat template that no prompt uses" in out


def test_models_that_are_refused(told: Any, small_model: Callable[..., Path], tmp_path: Path) -> None:
    status, (line,), _ = told("model=custom", f"model.id={small_model('llama', pickle=True)}")
    assert status == 2
    assert "set model.allow_pickle=true if you trust it" in line
    for name, changes, cure in (
        ("t5", {"model_type": "t5", "is_encoder_decoder": True}, "only decoder-only models"),
        (
            "foreign",
            {"model_type": "x_llm", "auto_map": {"AutoModelForCausalLM": "modeling_x.X"}},
            "set model.trust_remote_code=true",
        ),
    ):
        folder = tmp_path / name
        shutil.copytree(small_model("llama"), folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
        status, (line,), _ = told("model=custom", f"model.id={folder}")
        assert status == 2
        assert cure in line


def test_a_quantization_that_cannot_run_here(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch  # noqa: F401  # a plan asks bitsandbytes itself only once torch is there

    from harness.models.quantize import import_bitsandbytes

    monkeypatch.setattr(import_bitsandbytes(), "supported_torch_devices", {"cuda"})
    status, (line,), _ = told("quantization=bnb_nf4")
    assert status == 2
    assert line.startswith("quantization: bnb_nf4 cannot run on cpu: bitsandbytes runs on cuda")
    assert line.endswith("there are: none, fp32, bf16, fp16")


class _Gate(BaseHTTPRequestHandler):
    """A hub on which every model is gated."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("X-Error-Message", "Access to this model is restricted.")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def gate() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Gate)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_hub_that_refuses_and_one_that_does_not_answer(gate: str, tmp_path: Path) -> None:
    for endpoint, cure in (
        (gate, "is gated: ask for access"),
        ("http://127.0.0.1:9", "the hub does not answer"),
    ):
        done = harness(
            "check", "model=custom", "model.id=some/model", folder=tmp_path,
            HF_HUB_OFFLINE="0", HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "hub"),
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("model.id: ")
        assert "some/model" in line
        assert cure in line
