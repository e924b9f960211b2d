"""Expectations from the command line to the exit status, the terminal, the sweep's folder and MLflow."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_points import write_table
from mlflow_runs import runs

from harness.analysis.expectations import check_expectations
from harness.cli.main import main
from harness.config.search_path import built_in
from harness.plan.plan import make_plan
from harness.store.sweeps import Sweep, find_sweep

BASE = [
    "model=fable_tiny", "quantization=fp32", "prompts=storytelling", "prompts.limit=2", "timing=off",
    "generation.max_new_tokens=6", "engine.threads=1", "compare.noise=false",
]  # fmt: skip
PROMPT = "It was a dark and stormy"


@pytest.fixture(scope="module")
def stock(one_thread: None) -> dict[str, Any]:
    """What stock `generate` makes of PROMPT greedily, the prompt's ids and the odds of what follows."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = built_in("harness") / "models" / "fable" / "fable_tiny"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    with torch.inference_mode():
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=6)[0]
        odds = model(**inputs).logits[0, -1].double().softmax(-1)
    prompt = inputs["input_ids"][0]
    return {
        "prompt_ids": prompt.tolist(),
        "output_ids": ids[len(prompt) :].tolist(),
        "output": tokenizer.decode(ids, skip_special_tokens=True)[len(PROMPT) :],
        "top": {tokenizer.decode(i).strip(): round(float(odds[i]), 6) for i in odds.topk(3).indices.tolist()},
    }


def expect(*entries: dict[str, Any]) -> str:
    """As on the command line: JSON, but that Hydra has no quotes around keys."""
    return "expect=" + re.sub(r'"(\w+)":', r"\1:", json.dumps(entries))


def test_what_stock_generate_makes_is_seen(
    stock: dict[str, Any], store: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {name: stock[name] for name in ("output", "output_ids", "prompt_ids")}
    entries = expect(
        {"point": "*/greedy", "prompt": "stormy", **own},
        {"prompt": "stormy", "prompt_ids_start": stock["prompt_ids"][:3]},
        {"prompt": "stormy", "top": stock["top"], "tolerance": 0.0001},
        {"metric": "text/output_tokens", "min": 1, "max": 6},
    )
    words = ["-m", *BASE, "decoding=greedy,top_p", "record.prompt_logprobs=true", entries]
    assert main(words) == 0
    assert "expectations: 9 passed" in capsys.readouterr().out
    told = json.loads((find_sweep(outputs, None).folder / "expectations.json").read_text())
    assert [one["passed"] for one in told] == [True] * 9
    assert told[1]["got"] == repr(stock["output"])
    children = {run.data.tags["decoding"]: run.data.tags["expectations"] for run in runs(store, "generation")}
    assert children == {"greedy": "6 passed", "top_p": "3 passed"}
    (parent,) = runs(store, "sweep")
    assert parent.data.tags["expectations"] == "9 passed"


def test_a_miss_is_status_1_one_line_and_a_tag(
    store: str, outputs: Path, decoded: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["-m", *BASE, "decoding=greedy,top_p"]
    assert main(sweep) == 0
    before = {run.info.run_id for run in runs(store, "generation")}
    assert all(
        "expectations" not in run.data.tags for run in [*runs(store, "generation"), *runs(store, "sweep")]
    )
    assert "expectations" not in capsys.readouterr().out
    folder = find_sweep(outputs, None).folder
    assert not (folder / "expectations.json").exists()

    # The points are in the store and in MLflow already; what is expected of them is new.
    wrong = {"point": "*/greedy", "prompt": "stormy", "output_start": "Tea"}
    right = {"metric": "text/output_tokens", "min": 1}
    assert main([*sweep, expect(wrong, right)]) == 1
    told = capsys.readouterr().out
    assert "expectations: 1 of 3 missed" in told
    (line,) = [line for line in told.splitlines() if line.startswith("✗ fable_tiny")]
    assert line.startswith("✗ fable_tiny/fp32/greedy: stormy: expected output start 'Tea'; got ' ")
    assert line.endswith(" where 'Tea' was expected, at character 0")
    assert main(["report"]) == 1
    assert line in capsys.readouterr().out
    missed = line.removeprefix("✗ fable_tiny/fp32/greedy: ")
    children = {run.data.tags["decoding"]: run.data.tags["expectations"] for run in runs(store, "generation")}
    assert children == {"greedy": f"1 of 2 missed: {missed}", "top_p": "1 passed"}
    (parent,) = runs(store, "sweep")
    assert parent.data.tags["expectations"] == f"1 of 3 missed: fable_tiny/fp32/greedy: {missed}"
    assert parent.info.status == "FINISHED", "every point is done"

    # Nothing is expected any more.
    assert main(sweep) == 0
    assert decoded == [4], "expectations decode nothing"
    assert {run.info.run_id for run in runs(store, "generation")} == before
    assert all(
        "expectations" not in run.data.tags for run in [*runs(store, "generation"), *runs(store, "sweep")]
    )
    assert not (folder / "expectations.json").exists()


def test_a_point_that_failed_has_missed_what_was_expected(
    store: str, no_penalties: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with no_penalties(ValueError):
        words = ["-m", *BASE, "decoding=greedy,repetition_penalty", expect({"output_start": " "})]
        assert main(words) == 1
    assert "expectations: 1 of 3 missed" in capsys.readouterr().out
    failed = next(run for run in runs(store, "generation") if run.info.status == "FAILED")
    assert failed.data.tags["expectations"] == (
        "1 of 1 missed: expected output start ' '; got nothing, the point failed: ValueError: no luck today"
    )


def test_many_misses_are_told_in_the_file(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    items = ",".join(f"number {i}" for i in range(25))
    own = ["prompts=custom", f"prompts.items=[{items}]", "prompts.chat=false", "tracking=off"]
    assert (
        main([*(word for word in BASE if not word.startswith("prompts")), *own, expect({"output": "x"})]) == 1
    )
    lines = capsys.readouterr().out.splitlines()
    assert "expectations: 25 of 25 missed" in lines
    assert sum(line.startswith("✗ fable_tiny") for line in lines) == 20
    assert "  and 5 more in expectations.json" in lines
    assert len(json.loads((find_sweep(outputs, None).folder / "expectations.json").read_text())) == 25


SEEN = {
    "greedy": " night. The sky was dark and the wind was howling. The rain was pouring down and the",
    "beam": (
        " night. The wind was howling, and the rain was pouring down. The sky was dark and gloomy, "
        "and the air was filled with the"
    ),
    "beam_repetition_penalty": (
        " night. The sky was filled with thunder and lightning, and the wind howled in the distance. "
        "It was raining cats and dogs, and the streets were covered in puddles of water."
    ),
}
"""What the notebook printed after the prompt."""
PERCENT = """
night 88.71, evening 4.30, day 2.19, morning 0.49, winter 0.45, afternoon 0.27, Saturday 0.25, Sunday 0.19,
Friday 0.17, October 0.16
"""


def test_the_seed_notebook_expects_what_the_notebook_printed(
    outputs: Path, small_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qwen2 is not here: the sweep is planned with another model, and its points hold what was printed."""
    import harness.run.sweep as run

    planned: list[Sweep] = []

    def only_plan(points: Any, name: str, files: Any) -> int:
        planned.append(make_plan(points, name).sweep())
        return 0

    monkeypatch.setattr(run, "run_sweep", only_plan)
    words = ["experiments=seed_notebook", "model=custom", f"model.id={small_model('qwen2')}", "timing=off"]
    assert main(words) == 0
    (sweep,) = planned
    tops = [entry.split() for entry in " ".join(PERCENT.split()).split(", ")]
    for place, point in enumerate(sweep.points):
        folder = outputs / "points" / point.point_id
        folder.mkdir(parents=True)
        one = {"prompt_id": "stormy", "sample": 0}
        write_table([{**one, "output": SEEN[point.decoding]}], folder / "generations.parquet")
        ids = [2132, 572, 264, 6319, 323, 13458, 88]
        write_table([{**one, "token_id": token} for token in ids], folder / "prompt_tokens.parquet")
        top = {
            "top_tokens": [f" {word}" for word, _ in tops],
            "top_logprobs": [math.log(float(percent) / 100) for _, percent in tops],
        }
        write_table([{**one, "position": 0, **top}], folder / "tokens.parquet")
        sweep = sweep.with_point(place, status="done")
    checked = check_expectations(sweep)
    assert [one.line for one in checked if not one.passed] == []
    assert len(checked) == 9
    off = {"top_tokens": top["top_tokens"], "top_logprobs": [math.log(0.88), *top["top_logprobs"][1:]]}
    write_table([{**one, "position": 0, **off}], folder / "tokens.parquet")
    (wrong,) = (one for one in check_expectations(sweep) if not one.passed)
    assert "'night' 0.8800 (off by 0.0071)" in wrong.got


def test_the_built_in_model_shows_the_odds_of_its_grammar(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tools.fable.grammar import fable_grammar

    told = yaml.safe_load((built_in("experiments") / "fable_expectations.yaml").read_text())
    prompts = {item["id"]: item["prompt"] for item in told["prompts"]["items"]}
    tops = [entry for entry in told["expect"] if "top" in entry]
    assert len(tops) == 2
    for entry in tops:
        exact = {
            unit.strip(): odds for unit, odds in fable_grammar().next_words(prompts[entry["prompt"]]).items()
        }
        assert entry["top"] == pytest.approx(exact)
        assert entry["tolerance"] == 0.05
    assert main(["experiments=fable_expectations", "engine.threads=1", "tracking=off"]) == 0
    assert "expectations: 9 passed" in capsys.readouterr().out
