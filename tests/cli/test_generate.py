"""`harness generate`: the texts that a sweep stores, as they come, on a terminal, in a pipe and as JSON."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from forked import Forked

from harness.cli.main import main

PROMPT = "It was a dark and stormy"
NOT_STORED = ["timing=off", "tracking=off", "compare.noise=false"]
STRATEGIES = {
    "greedy": 1,
    "top_p": 2,
    "dry": 2,
    "mirostat": 2,
    "cfg": 1,
    "contrastive_search": 1,
    "beam": 1,
    "diverse_beam": 2,
}
SETTINGS = ["model=fable_tiny", "generation.max_new_tokens=16", "decoding.negative_prompt=Once"]
ON_A_TERMINAL = """
import os, sys
terminal = os.open(os.environ["TERMINAL"], os.O_RDWR)
for number in (1, 2):
    os.dup2(terminal, number)
from harness.cli.main import main
sys.exit(main())
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*38;[0-9;]*m")
ESCAPE = re.compile(r"\x1b\[[0-9;]*[mK]")


def lines_of(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    """Return what `generate --json` prints."""
    capsys.readouterr()
    assert main(["generate", *words, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def stored_samples(outputs: Path) -> dict[tuple[str, int], Mapping[str, Any]]:
    """Return the stored samples of the only sweep by decoding and index, each with its rows of tokens."""
    (plan,) = outputs.glob("sweeps/*/plan.json")
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    for point in json.loads(plan.read_text())["points"]:
        folder = outputs / "points" / point["point_id"]
        tokens = pq.read_table(folder / "tokens.parquet").to_pylist()
        for row in pq.read_table(folder / "generations.parquet").to_pylist():
            own = [token for token in tokens if token["sample"] == row["sample"]]
            found[point["decoding"], row["sample"]] = row | {"tokens": own}
    return found


def check_same(printed: Sequence[Mapping[str, Any]], stored: Mapping[str, Any]) -> None:
    """Check the JSON lines of a sample: they say what is stored of it."""
    *tokens, last = printed
    assert last["text"] == stored["output"] == "".join(token["text"] for token in tokens)
    assert last["prompt_id"] == stored["prompt_id"]
    for name in ("finish_reason", "prompt_tokens", "output_tokens", "seed"):
        assert last[name] == stored[name]
    assert last["mean_logprob"] == pytest.approx(stored["mean_logprob"], abs=1e-5)
    assert [token["position"] for token in tokens] == list(range(stored["output_tokens"]))
    for name in ("token_id", "rank", "kept"):
        assert [token[name] for token in tokens] == [row[name] for row in stored["tokens"]]
    for name in ("logprob", "warped_logprob", "entropy", "warped_entropy", "kept_mass"):
        shown = [token[name] for token in tokens]
        np.testing.assert_allclose(shown, [row[name] for row in stored["tokens"]], atol=1e-5, err_msg=name)


def test_the_texts_are_those_of_a_sweep(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of every kind of strategy, token by token: one that draws, penalises, is guided, or searches."""
    decoding = f"decoding={','.join(STRATEGIES)}"
    sweep = ["-m", "prompts=custom", "prompts.chat=false", f"prompts.items=['{PROMPT}']", "seeds"]
    sweep[-1] = "generation.samples=2"
    assert main([*sweep, decoding, *SETTINGS, *NOT_STORED]) == 0
    stored = stored_samples(outputs)
    assert len(stored) == sum(STRATEGIES.values())
    texts = set()
    for name, samples in STRATEGIES.items():
        words = [word for word in SETTINGS if "negative" not in word or name == "cfg"]
        more = [f"generation.samples={samples}"] if samples > 1 else []
        printed = lines_of(capsys, *words, f"decoding={name}", *more, f"prompt={PROMPT}")
        for sample in range(samples):
            own = [line for line in printed if line["sample"] == sample]
            check_same(own, stored[name, sample])
            texts.add(own[-1]["text"])
            assert (own[-1]["ttft_ms"] is None) == ("beam" in name)
    assert len(texts) > 6
    assert len(list(outputs.glob("points/*"))) == len(STRATEGIES), "nothing more is stored"


def test_chats_and_stop_strings_are_those_of_a_sweep(
    outputs: Path, tmp_path: Path, small_model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a system turn, a row with an id of its own, and a stop string of several tokens."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": "own", "prompt": PROMPT}) + "\n" + json.dumps({"prompt": "another"}))
    folder = small_model("llama", chat="plain")
    words = ["model=custom", f"model.id={folder}", f"prompts.file={rows}", "prompts.chat=true",
             "prompts.system=Be brief", "decoding=top_p", "generation.max_new_tokens=24"]  # fmt: skip
    free = lines_of(capsys, *words, f"prompt={PROMPT}")
    assert free[-1]["prompt_id"] == "own"
    stop = free[-1]["text"][4:8]
    words.append(f"generation.stop_strings=[{json.dumps(stop)}]")
    assert main([*words, *NOT_STORED]) == 0
    stored = stored_samples(outputs)["top_p", 0]
    assert stored["finish_reason"] == "stop_string"
    (folder,) = outputs.glob("points/*")
    both = pq.read_table(folder / "generations.parquet").to_pylist()
    assert [row["prompt_id"] for row in both][0] == "own"
    stored = both[0] | {
        "tokens": [
            row for row in pq.read_table(folder / "tokens.parquet").to_pylist() if row["prompt_id"] == "own"
        ]
    }
    printed = lines_of(capsys, *words, f"prompt={PROMPT}")
    check_same(printed, stored)
    assert stop in printed[-1]["text"]
    for named in (["prompt_id=own"], ["prompt_id=own", f"prompt={PROMPT}"]):
        assert lines_of(capsys, *words, *named)[-1]["text"] == stored["output"]
