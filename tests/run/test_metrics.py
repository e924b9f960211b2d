"""Metrics as a part of a stored point: computed again when they differ, without a model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import harness.models.load as loading
from harness.cli.main import main
from harness.store.stored_point import StoredPoint

POLITE = '''
from pathlib import Path

def politeness(generated):
    """How often it says please."""
    return generated.output.count("e")

politeness.better = "higher"
'''
BASE = [
    "model=fable_tiny",
    "quantization=fp32",
    "decoding=greedy",
    "generation.max_new_tokens=6",
    "engine.threads=1",
    "timing=off",
    "tracking=off",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with prompts that have references, and a metric of one's own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    references(folder, "Lisbon")
    (folder / "mine.py").write_text(POLITE, encoding="utf-8")
    return folder


def references(folder: Path, reference: str) -> None:
    rows = [
        {"id": "a", "prompt": "Portugal is", "reference": reference},
        {"id": "b", "prompt": "Once upon a time"},
    ]
    (folder / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


SET = ["prompts.file=set.jsonl"]
OWN = ["compare.metrics=[mine.py:politeness]"]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were loaded, one entry a load."""
    calls: list[str] = []
    honest = loading.load

    def counted(model: Any, *rest: Any, **more: Any) -> Any:
        calls.append(model.name)
        return honest(model, *rest, **more)

    monkeypatch.setattr("harness.backends.hf.backend.load", counted)
    return calls


def only_point(outputs: Path) -> StoredPoint:
    (folder,) = (outputs / "points").iterdir()
    return StoredPoint(folder)


def last_point(outputs: Path) -> dict[str, Any]:
    plans = sorted((outputs / "sweeps").glob("*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
    (point,) = json.loads(plans[-1].read_text())["points"]
    return point


def test_what_differs_is_computed_and_nothing_is_loaded(
    here: Path, outputs: Path, loads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*BASE, *SET]
    assert main(command) == 0
    stored = only_point(outputs)
    tokens = stored.path("tokens.parquet").read_bytes()
    rows = stored.rows("generations")
    assert [row["reference"] for row in rows] == ["Lisbon", None]
    chrf = stored.metrics()["metrics"]["reference/chrf"]
    loads.clear()

    assert main([*command, *OWN]) == 0
    assert last_point(outputs)["status"] == "reused"
    asked = [row["output"].count("e") for row in rows]
    assert [row["own_politeness"] for row in stored.rows("generations")] == asked
    assert stored.metrics()["metrics"]["own/politeness"] == sum(asked) / 2

    (here / "mine.py").write_text(POLITE.replace('"e"', '"a"'), encoding="utf-8")
    assert main([*command, *OWN]) == 0
    asked = [row["output"].count("a") for row in rows]
    assert [row["own_politeness"] for row in stored.rows("generations")] == asked

    references(here, rows[0]["output"])
    capsys.readouterr()
    assert main(["plan", *command, *OWN]) == 0
    said = capsys.readouterr().out
    assert [line.split()[-1] for line in said.splitlines() if "/greedy" in line] == ["metrics"]
    assert "1 point, 0 in the store already; 0 model loads and at most 0 tokens to come" in said
    assert main([*command, *OWN]) == 0
    assert stored.metrics()["metrics"]["reference/chrf"] == pytest.approx(100) != chrf
    assert stored.rows("generations")[0]["exact_match"] == 1

    assert main(command) == 0
    assert "own_politeness" not in stored.table("generations").column_names
    assert loads == []
    assert stored.path("tokens.parquet").read_bytes() == tokens
    written = stored.path("generations.parquet").stat().st_mtime_ns
    assert main(command) == 0
    assert stored.path("generations.parquet").stat().st_mtime_ns == written, "the same is not computed again"


def test_only_metrics_need_no_torch(here: Path, outputs: Path) -> None:
    assert main([*BASE, *SET]) == 0
    code = (
        "import sys; from harness.cli.main import main; status = main(sys.argv[1:]); "
        "sys.exit(9 if {'torch', 'transformers.modeling_utils'} & set(sys.modules) else status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *BASE, *SET, *OWN], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "own/politeness" in only_point(outputs).metrics()["metrics"]


def test_a_metric_that_raises_costs_no_sample(
    here: Path, outputs: Path, loads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.py").write_text("def politeness(generated): return {}[generated.prompt_id]\n")
    told = (
        "compare.metrics=mine.py:politeness: politeness raised KeyError: 'a' for prompt 'a', sample 0; "
        "the samples are kept; run the same command again to continue from them"
    )
    for _ in range(2):
        assert main([*BASE, *SET, *OWN]) == 1
        point = last_point(outputs)
        assert (point["status"], point["error"]) == ("failed", told)
        assert "Traceback" in point["traceback"]
        assert told in capsys.readouterr().out
        assert loads == ["fable_tiny"], "of the samples, the first time"
    assert only_point(outputs).table("generations").num_rows == 2
    (here / "mine.py").write_text(POLITE, encoding="utf-8")
    assert main([*BASE, *SET, *OWN]) == 0
    assert last_point(outputs)["status"] == "reused"
    assert loads == ["fable_tiny"]


def test_one_point_that_fails_in_its_metrics_fails_alone(here: Path, outputs: Path) -> None:
    (here / "mine.py").write_text(
        "def politeness(generated): return 1 / (not any(token.rank > 1 for token in generated.tokens))\n"
    )
    sweep = [
        "-m",
        *[word for word in BASE if "decoding" not in word],
        "decoding=temperature,greedy",
        *SET,
        *OWN,
    ]
    assert main(sweep) == 1
    (plan,) = (outputs / "sweeps").glob("*/plan.json")
    assert [point["status"] for point in json.loads(plan.read_text())["points"]] == ["failed", "done"]


def test_what_is_not_there_is_told_before_anything_runs(
    here: Path, outputs: Path, loads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.py").write_text(POLITE + "Path('ran').touch()\n", encoding="utf-8")
    for word in (["plan"], ["check"], []):
        assert main([*word, *BASE, *SET, "compare.metrics=[mine.py:politenes,gone.py:f]"]) == 2
        misspelt, gone = capsys.readouterr().err.splitlines()
        assert misspelt == (
            "compare.metrics=mine.py:politenes: mine.py has no function 'politenes'; "
            "did you mean politeness? (functions: Path, politeness)"
        )
        assert gone == f"compare.metrics=gone.py:f: gone.py not found (looked in {here})"
    for word in ("plan", "check"):
        assert main([word, *BASE, *SET, *OWN]) == 0
    assert not (here / "ran").exists(), "planning runs nobody's code"
    assert loads == []
    assert not outputs.exists()


def test_a_reference_must_be_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "set.jsonl").write_text('{"prompt": "a", "reference": ["b"]}\n{"prompt": "b", "reference": 42}\n')
    assert main(["check", *BASE, *SET]) == 2
    assert capsys.readouterr().err.splitlines() == ["set.jsonl:1: `reference` must be text, not list: ['b']"]


def test_references_of_all_kinds(here: Path, outputs: Path) -> None:
    values = [0, 1.5, "  ", "", None, float("nan"), "x" * 10_000, "</script>\u202e\x00"]
    rows = [{"id": f"p{place}", "prompt": "Hello", "reference": value} for place, value in enumerate(values)]
    (here / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main([*BASE, *SET]) == 0
    stored = [row["reference"] for row in only_point(outputs).rows("generations")]
    assert stored == ["0", "1.5", None, None, None, None, *values[-2:]]


def test_a_reference_must_be_unicode(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "set.jsonl").write_text('{"prompt": "a", "reference": "a\\ud800b"}\n', encoding="utf-8")
    assert main(["check", *BASE, *SET]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("set.jsonl:1: `reference` holds lone surrogate U+D800")


def test_two_references_of_one_prompt_in_a_sweep(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (f"{{id: a, prompt: Hello, reference: {word}}}" for word in ("x", "y"))
    assert main(["check", "-m", *BASE, "prompts=custom", f"prompts.items=[{first}],[{second}]"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("prompts: ")
    assert "same prompts with other references; run the second one as a sweep of its own" in line


def test_a_reference_is_no_part_of_the_address(here: Path, outputs: Path) -> None:
    """Nor of the id that a prompt without one is given."""
    for reference in ("x", "y", None):
        row = {"prompt": "Portugal is"} | ({"reference": reference} if reference else {})
        (here / "set.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        assert main([*BASE, *SET]) == 0
    assert "reference" not in only_point(outputs).table("generations").column_names


def test_timing_added_later_is_in_the_metrics(here: Path, outputs: Path) -> None:
    assert main([*BASE, *SET]) == 0
    quick = ["timing=quick", "timing.prompts=1", "timing.repeats=1", "timing.new_tokens=3"]
    assert main([*BASE, *SET, *quick]) == 0
    metrics = only_point(outputs).metrics()["metrics"]
    assert metrics["latency/itl_p50_ms"] > 0
    assert main([*BASE, *SET]) == 0
    assert only_point(outputs).metrics()["metrics"] == metrics, "what is not asked for is not taken away"


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["generations.parquet", "metrics.json", "parts.json"])
def test_interrupted_in_the_middle(
    here: Path, outputs: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Killed before any of its files, a point's metrics are computed again: never half old, half new."""
    import harness.store.files as files

    assert main([*BASE, *SET]) == 0
    honest, stored = files.os.replace, only_point(outputs)
    times = 0

    def replace(source: Any, target: Any) -> None:
        nonlocal times
        times += Path(target).name == name
        if Path(target).name == name and times == (2 if name == "parts.json" else 1):
            raise KeyboardInterrupt
        honest(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", replace)
        assert main([*BASE, *SET, *OWN]) == 130
    assert "metrics" not in stored.parts()
    for words, there in (([*BASE, *SET], False), ([*BASE, *SET, *OWN], True)):
        assert main(words) == 0
        assert ("own/politeness" in stored.metrics()["metrics"]) is there
        assert ("own_politeness" in stored.table("generations").column_names) is there
    assert loads == ["fable_tiny"]


def test_points_of_before_get_their_metrics(
    here: Path, outputs: Path, loads: list[str], decoded: list[int]
) -> None:
    """As an older version of the metrics left it: the samples stay."""
    assert main([*BASE, *SET]) == 0
    stored = only_point(outputs)
    parts = stored.parts()
    parts["metrics"]["version"] -= 1
    stored.write_json("parts.json", parts)
    whole = pq.read_table(stored.path("generations.parquet"))
    stored.write_table("generations", whole.drop_columns(["repeated_4"]))
    assert main([*BASE, *SET]) == 0
    assert stored.table("generations").equals(whole)
    assert (loads, decoded) == (["fable_tiny"], [2])


def test_several_samples_have_a_self_bleu(here: Path, outputs: Path) -> None:
    words = [word for word in BASE if "decoding" not in word]
    assert main([*words, *SET, "decoding=temperature", "generation.samples=3"]) == 0
    stored = only_point(outputs)
    assert 0 <= stored.metrics()["metrics"]["text/self_bleu"] <= 100
    assert len(stored.metrics()["per_prompt"]["text/self_bleu"]) == 2
