"""Chat answers end where the chat template ends a turn, whatever another file of the checkpoint says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from harness.backends.backend import ChatEnd
from harness.backends.hf.target import HfTarget
from harness.cli.main import main

BASE = ["model=custom", "quantization=fp32", "generation.max_new_tokens=12", "engine.threads=1", "timing=off",
        "compare.noise=false", "tracking=off", "prompts=custom", "generation.samples=1"]  # fmt: skip
BEGIN, END = 0, 1  # ids of <|begin|> and <|end|>; the template ends a turn with the latter
ROWS: list[dict[str, Any]] = [
    {"id": "chat", "messages": [{"role": "user", "content": "What is the color of the house?"}]},
    {"id": "long", "messages": [{"role": "user", "content": "A list of colors: red, blue, green"}]},
    {"id": "text", "prompt": "It was a dark and stormy"},
]


@pytest.fixture(scope="module")
def eager(small_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model that likes to end its turn: <|end|> is likelier than one of its favourites."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = shutil.copytree(small_model("llama", chat="plain"), tmp_path_factory.mktemp("eager") / "m")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens([BEGIN, END]) == ["<|begin|>", "<|end|>"]
    text = tokenizer.apply_chat_template(ROWS[0]["messages"], tokenize=False, add_generation_prompt=True)
    with torch.no_grad():
        tokens = model.generate(
            **tokenizer([text], return_tensors="pt"), do_sample=False, max_new_tokens=9, eos_token_id=None
        )
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][END] = 1.3 * weights["lm_head.weight"][tokens[0, -4]]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def ends_elsewhere(folder: Path, source: str) -> None:
    """Let one file of a checkpoint name <|begin|> as EOS, and no other one that takes precedence any."""
    names = ("generation_config.json", "config.json", "tokenizer_config.json")
    for name in names:
        content = json.loads((folder / name).read_text())
        key, value = ("eos_token", "<|begin|>") if name.startswith("tok") else ("eos_token_id", BEGIN)
        content.pop(key)
        if names.index(name) >= names.index(source):
            content[key] = value
        (folder / name).write_text(json.dumps(content))


def points(outputs: Path) -> list[dict[str, Any]]:
    plans = sorted((outputs / "sweeps").glob("*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(plans[-1].read_text())["points"]


@pytest.fixture
def run(outputs: Path, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    def run_points(folder: Path, *words: str, rows: Any = ROWS) -> list[dict[str, Any]]:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert main(["-m", *BASE, f"model.id={folder}", f"prompts.file={file}", *words]) == 0
        return points(outputs)

    return run_points


@pytest.mark.thinned(2)
@pytest.mark.parametrize("source", ["generation_config.json", "config.json", "tokenizer_config.json"])
def test_chat_answers_end_at_both_and_texts_where_they_did(
    eager: Path, run: Any, outputs: Path, tmp_path: Path, source: str
) -> None:
    folder = shutil.copytree(eager, tmp_path / "m")
    ends_elsewhere(folder, source)
    done = run(folder, "decoding=greedy,top_p,beam")
    ended = 0
    for point in done:
        stored = outputs / "points" / point["point_id"]
        reasons = {row["prompt_id"]: row["finish_reason"] for row in rows_of(stored, "generations")}
        tokens = rows_of(stored, "tokens")
        for prompt in ("chat", "long"):
            ids = [row["token_id"] for row in tokens if row["prompt_id"] == prompt]
            assert END not in ids[:-1]
            assert BEGIN not in ids[:-1]
            assert (reasons[prompt] == "eos") == (ids[-1] in (BEGIN, END))
            ended += ids[-1] == END
        text = [row["token_id"] for row in tokens if row["prompt_id"] == "text"]
        assert len(text) == 12 or text[-1] == BEGIN
        effective = yaml.safe_load((stored / "config.yaml").read_text())["effective"]
        assert (effective["eos_token_id"], effective["chat_eos_token_id"]) == ([BEGIN], [BEGIN, END])
        (warning,) = (line for line in point["warnings"] if "ends a turn" in line)
        assert f"ends a turn with {END} ('<|end|>')" in warning
        assert f"{source} ends a text with {BEGIN} ('<|begin|>')" in warning
    assert ended >= 3, "the model ends its turns"
    alone = run(folder, "decoding=greedy", "engine.batch_rows=1", "engine.fresh=true")
    assert alone[0]["point_id"] == done[0]["point_id"]


def rows_of(stored: Path, table: str) -> list[dict[str, Any]]:
    return pq.read_table(stored / f"{table}.parquet").to_pylist()


def test_only_points_that_it_changes_have_another_address(
    eager: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.config.hydra_app import run
    from harness.plan.plan import make_plan

    other = shutil.copytree(eager, tmp_path / "other")
    ends_elsewhere(other, "generation_config.json")
    file = tmp_path / "rows.jsonl"

    def plan(folder: Path, rows: Any, *words: str) -> tuple[str, str]:
        """The address and the warnings of one point."""
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found: list[tuple[str, str]] = []

        def prepare(prepared: Any, name: str, files: Any) -> int:
            (job,) = make_plan(prepared, name).jobs
            found.append((job.point_id, "\n".join(job.warnings)))
            return 0

        run([*BASE, f"model.id={folder}", f"prompts.file={file}", *words], prepare)
        return found[0]

    cases: dict[str, tuple[Path, Any, list[str]]] = {
        "differs": (other, ROWS, []),
        "ignores EOS": (other, ROWS, ["generation.ignore_eos=true"]),
        "texts": (other, ROWS[2:], []),
        "agrees": (eager, ROWS, []),
    }
    now = {name: plan(folder, rows, *words) for name, (folder, rows, words) in cases.items()}
    monkeypatch.setattr(HfTarget, "chat_end", lambda self: ChatEnd())
    before = {name: plan(folder, rows, *words) for name, (folder, rows, words) in cases.items()}
    changed = {name for name in cases if now[name][0] != before[name][0]}
    warned = {name for name in cases if "ends a turn" in now[name][1]}
    assert changed == warned == {"differs"}


@pytest.mark.parametrize("source", ["generation_config.json", "none"])
def test_inspect_ends_chat_answers_there_too(
    eager: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    folder = shutil.copytree(eager, tmp_path / "m")
    if source == "none":  # but the tokenizer
        for name in ("generation_config.json", "config.json"):
            content = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps(content | {"eos_token_id": None}))
    else:
        ends_elsewhere(folder, source)
    words = ["inspect", "model=custom", f"model.id={folder}", "steps=12", "chat=true", "--json"]
    assert main([*words, f"prompt={ROWS[0]['messages'][0]['content']}"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    chosen = [step["chosen"]["id"] for step in steps]
    assert chosen[-1] == END
    assert END not in chosen[:-1]
