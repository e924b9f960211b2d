"""`harness generate`: the texts that a sweep stores, as they come, on a terminal, in a pipe and as JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from forked import Forked

from harness.cli.main import main

PROMPT = "It was a dark and stormy"
ROWS: list[dict[str, Any]] = [
    {"id": "own", "prompt": PROMPT},
    {
        "id": "chat",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}],
    },
]
STOPS = ["fell wi", "e wind h"]
STRATEGIES = {"greedy": 1, "top_p": 2, "dry": 1, "beam": 1}
SETTINGS = ["model=fable_tiny", "generation.max_new_tokens=16"]
ON_A_TERMINAL = """
import os, sys
terminal = os.open(os.environ["TERMINAL"], os.O_RDWR)
for number in (1, 2):
    os.dup2(terminal, number)
from harness.cli.main import main
sys.exit(main())
"""
INTO_A_CLOSED_PIPE = """
import os, sys
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
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


def stored_samples(outputs: Path) -> dict[tuple[str, str, int], Mapping[str, Any]]:
    """Return the samples of the only sweep by decoding, prompt and index, each with its rows of tokens."""
    (plan,) = outputs.glob("sweeps/*/plan.json")
    found: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    for point in json.loads(plan.read_text())["points"]:
        folder = outputs / "points" / point["point_id"]
        tokens = pq.read_table(folder / "tokens.parquet").to_pylist()
        for row in pq.read_table(folder / "generations.parquet").to_pylist():
            which = row["prompt_id"], row["sample"]
            own = [token for token in tokens if (token["prompt_id"], token["sample"]) == which]
            found[point["decoding"], *which] = {**row, "tokens": own}
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


def test_the_texts_are_those_of_a_sweep(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Token by token, of strategies that take the likeliest, draw, penalise, and search; texts and chats."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, ROWS)))
    words = ["model=fable_tiny", "generation.max_new_tokens=16", f"prompts.file={rows}",
             f"generation.stop_strings={STOPS}"]  # fmt: skip
    sweep = ["-m", *words, f"decoding={','.join(STRATEGIES)}", "generation.samples=2"]
    assert main([*sweep, "timing=off", "tracking=off", "compare.noise=false", "engine.batch_rows=1"]) == 0
    stored = stored_samples(outputs)
    ends = set()
    for name, count in STRATEGIES.items():
        samples = [f"generation.samples={count}"] if count > 1 else []
        for prompt in (f"prompt={PROMPT}", "prompt_id=chat") if name == "top_p" else ("prompt_id=own",):
            printed = lines_of(capsys, *words, f"decoding={name}", *samples, prompt)
            for sample in range(count):
                own = [line for line in printed if line["sample"] == sample]
                check_same(own, stored[name, "chat" if "chat" in prompt else "own", sample])
                ends.add(own[-1]["finish_reason"])
                assert (own[-1]["ttft_ms"] is None) == (name == "beam")
                shown = "".join(line["text"] for line in own[:-2])
                assert not any(shown.endswith(stop[:-1]) for stop in STOPS), "held back"
    assert ends >= {"length", "stop_string"}
    assert len(list(outputs.glob("points/*"))) == len(STRATEGIES), "nothing more is stored"


def test_inspect_walks_along_the_same_text(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=fable_tiny", "decoding=top_p", "generation.max_new_tokens=8", f"prompt={PROMPT}"]
    *tokens, _ = lines_of(capsys, *words)
    assert main(["inspect", *words, "steps=8", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert [step["chosen"]["id"] for step in steps] == [token["token_id"] for token in tokens]


def on_a_terminal(
    forked: Callable[..., Forked], *words: str, **environment: str
) -> tuple[Forked, Callable[[], str]]:
    """Return a process whose output is a terminal, and what reads that terminal to its end."""
    terminal, other = pty.openpty()
    changes = {"TERM": "xterm-256color", **environment, "TERMINAL": os.ttyname(other)}
    process = forked(*words, code=ON_A_TERMINAL, **changes)

    def read() -> str:
        found = b""
        process.until(lambda: False)
        os.set_blocking(terminal, False)
        while True:
            try:
                found += os.read(terminal, 65536)
            except OSError:
                break
        os.close(terminal)
        os.close(other)
        return found.decode().replace("\r\n", "\n")

    return process, read


@pytest.mark.thinned(2)
@pytest.mark.parametrize("how", ["colours", "dumb", "NO_COLOR", "--no-color"])
def test_a_terminal(forked: Callable[..., Forked], capsys: pytest.CaptureFixture[str], how: str) -> None:
    words = [*SETTINGS, "decoding=top_p", f"prompt={PROMPT}"]
    text = lines_of(capsys, *words)[-1]["text"]
    changes = {"colours": {"COLORTERM": "truecolor"}, "NO_COLOR": {"NO_COLOR": "1"}, "dumb": {"TERM": "dumb"}}
    flags = ["--no-color"] if how == "--no-color" else []
    process, read = on_a_terminal(forked, "generate", *words, *flags, **changes.get(how, {}))
    printed = read()
    assert process.wait() == 0
    shown = ESCAPE.sub("", printed.rpartition("\r\x1b[2K")[2])
    prompt = "" if how == "dumb" else PROMPT  # which nothing would tell from the text
    first, *rest = filter(None, shown.splitlines())
    assert first == prompt + text
    assert rest[-1].startswith("16 tokens · length · mean logprob -")
    assert bool(COLOUR.search(printed)) == (how == "colours")
    assert (rest[:-1] == []) == (how != "colours")  # the legend
    assert ("\x1b[2m" in printed) == (how != "dumb")


def test_a_pipe_gets_the_text_and_nothing_else(
    forked: Callable[..., Forked], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SETTINGS, "decoding=beam", f"prompt={PROMPT}"]
    text = lines_of(capsys, *words)[-1]["text"]
    process = forked("generate", *words)
    assert process.wait() == 0
    assert process.stdout == text
    first, last = process.stderr.splitlines()
    assert first == "decoding=beam does not stream: its text comes when the search is over"
    assert last.startswith("16 tokens · length · mean logprob")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_what_has_come(
    forked: Callable[..., Forked], number: signal.Signals, status: int
) -> None:
    words = ["model=fable_small", f"prompt={PROMPT}", "generation.ignore_eos=true", "decoding=top_p"]
    as_json = ["--json"] if number == signal.SIGINT else []
    process = forked("generate", *words, "generation.max_new_tokens=480", *as_json)
    process.until(lambda: len(process.stdout) > 20)
    process.send(number)
    assert process.wait() == status
    assert process.stderr.splitlines()[-1] == "interrupted"
    assert "Traceback" not in process.stderr
    if as_json:
        *tokens, last = map(json.loads, process.stdout.splitlines())
        assert last["finish_reason"] == "interrupted"
        assert 0 < last["output_tokens"] == len(tokens) < 480
        assert last["text"] == "".join(token["text"] for token in tokens)
    else:
        assert process.stdout
        assert " tokens · interrupted · " in process.stderr


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    "words", [["generate"], ["generate", "--json"], ["inspect"], ["inspect", "--json"]], ids=" ".join
)
def test_a_reader_that_has_gone_is_no_error(forked: Callable[..., Forked], words: list[str]) -> None:
    process = forked(*words, "model=fable_tiny", f"prompt={PROMPT}", code=INTO_A_CLOSED_PIPE)
    assert process.wait() == 0
    assert process.stderr == ""


def test_what_fails_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A prompt that is wrong, of status 2, and a strategy that fails while it decodes, of status 1."""
    words = ["generate", "model=fable_tiny", "generation.max_new_tokens=4"]
    assert main([*words, "prompt_id=story"]) == 2
    printed = capsys.readouterr()
    expected = (
        "prompt_id=story: the prompts have no row of this id; did you mean stormy? (ids: stormy, once, "
    )
    assert printed.err.startswith(expected)
    assert len(printed.err.splitlines()) == 1
    path = tmp_path / "own.py"
    path.write_text("def fails(input_ids, scores):\n    raise ValueError('as it\\nlikes')\n")
    assert main([*words, "prompt=x", f"decoding.processors=['{path}:fails']"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = [line for line in printed.err.splitlines() if not line.startswith("warning ")]
    assert "as it likes" in line
