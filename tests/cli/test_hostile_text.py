"""What the terminal gets: hostile text without effect, wherever it comes from, in every encoding."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress, TextColumn
from rich.style import Style
from rich.table import Table
from rich.text import Text

import harness.models.fable
from harness.cli.main import main
from harness.report.console import SafeConsole
from harness.run.display import Display
from harness.terminal import visible_streams

FABLE = Path(harness.models.fable.__file__).parent / "fable_tiny"
ESCAPES = {
    "colour": "\x1b[8m",
    "link": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "return": "\rfine",
    "c1": "\x9b31m\x85",
    "bidi": "\u202eevil\u2066",
    "hidden": "\u200b\ufeff\u00ad",
}
HOSTILE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]"
)
WORDS = ["model=fable_tiny", "prompts=custom", "tracking=off", "timing=off", "generation.max_new_tokens=4"]
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("check", ..., encoding="ascii")`: exit status and all that was printed, as its bytes decode."""
    monkeypatch.chdir(tmp_path)

    def start(*words: str, encoding: str = "utf-8") -> tuple[int, str]:
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        status = main(words)
        printed = [stream.buffer for stream in streams if not stream.flush()]
        return status, "".join(buffer.getvalue().decode(encoding) for buffer in printed)  # type: ignore[attr-defined]

    return start


def with_template(template: str) -> Callable[[str], list[str]]:
    def words(text: str) -> list[str]:
        Path("t.jinja").write_text(template.replace("TEXT", text), encoding="utf-8")
        return ["model.chat_template=t.jinja", "prompts.items=[a]", "prompts.chat=true"]

    return words


def in_a_row(row: Callable[[str], Any]) -> Callable[[str], list[str]]:
    def words(text: str) -> list[str]:
        Path("p.jsonl").write_text(json.dumps(row(text)), encoding="utf-8")
        return ["prompts.file=p.jsonl"]

    return words


def in_a_model(**change: str) -> Callable[[str], list[str]]:
    def words(text: str) -> list[str]:
        shutil.copytree(FABLE, "m")
        config = json.loads(Path("m/config.json").read_text()) | dict.fromkeys(change, text)
        Path("m/config.json").write_text(json.dumps(config))
        return ["model=custom", "model.id=m", "prompts.items=[a]"]

    return words


def in_an_experiment(line: str) -> Callable[[str], list[str]]:
    def words(text: str) -> list[str]:
        Path("experiments").mkdir()
        body = f"# @package _global_\n{line.replace('TEXT', json.dumps(text))}\n"
        Path("experiments/e.yaml").write_text(body, encoding="utf-8")
        return ["experiments=e", "prompts.items=[a]"]

    return words


SOURCES: dict[str, Callable[[str], list[str]]] = {
    "a key of JSON": in_a_row(lambda text: {text: 1}),
    "a value of JSON": in_a_row(lambda text: {"prompt": "a", "id": [text]}),
    "an id": in_a_row(lambda text: {"prompt": "a", "id": text}),
    "a role": in_a_row(lambda text: {"messages": [{"role": text, "content": "a"}]}),
    "a key of a turn": in_a_row(lambda text: {"messages": [{"role": "user", "content": "a", text: 1}]}),
    "the error of a chat template": with_template("{{ raise_exception('TEXT') }}"),
    "a chat template": with_template("{{ TEXT"),
    "a template": lambda text: [f"prompts.template='{{{text}}}'", "prompts.items=[a]"],
    "a file's name": lambda text: [f"prompts.file='{text}.txt'"],
    "a model's name": lambda text: ["model=custom", f"model.id='{text}'", "prompts.items=[a]"],
    "a model's type": in_a_model(model_type=""),
    "a model's dtype": in_a_model(dtype=""),
    "a key": lambda text: [f"decoding.{text}=1", "prompts.items=[a]"],
    "a value": lambda text: [f"decoding.top_p='{text}'", "prompts.items=[a]"],
    "a choice": lambda text: [f"decoding={text}", "prompts.items=[a]"],
    "an override": lambda text: [text, "prompts.items=[a]"],
    "a label": lambda text: ["-m", "decoding=greedy,top_p",
        f"generation.stop_strings=['{text}'],[]", "prompts.items=[a]"],
    "an expression": lambda text: ["-m", f"decoding.regex='({text}'", "prompts.items=[a]"],
    "a grammar": lambda text: [f"decoding.grammar='start: {text}'", "prompts.items=[a]"],
    "a schema": lambda text: [f"decoding.json_schema='{{{text}'", "prompts.items=[a]"],
    "a type of a schema": lambda text: [
        "decoding.json_schema='" + json.dumps({"type": text}, ensure_ascii=False) + "'", "prompts.items=[a]"],
    "choices of a label": lambda text: ["-m", f"decoding.choices=['{text}'],[b]", "prompts.items=[a]"],
    "a key of an experiment": in_an_experiment("TEXT: 1"),
    "a value of an experiment": in_an_experiment("generation: {seed: TEXT}"),
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_hostile_is_printed(run: Run, source: str) -> None:
    words = [word for word in WORDS if not word.startswith("model=")]
    status, printed = run("check", "model=fable_tiny", *words, *SOURCES[source]("".join(ESCAPES.values())))
    assert status in (0, 2), printed
    assert not HOSTILE.search(printed), printed
    assert not re.search("^unexpected ", printed, re.MULTILINE)
    assert "Traceback" not in printed
    assert printed.strip()


def test_a_sweep_whose_labels_and_names_are_hostile(run: Run) -> None:
    """Progress lines, table, errors, plan, report and replay of points that are called by what is hostile."""
    text = "".join(ESCAPES.values())
    Path("p.jsonl").write_text(json.dumps({"prompt": f"a {text}"}))
    words = ["-m", *WORDS, "prompts.file=p.jsonl", f'generation.stop_strings=["{text}"],["b"]']
    for command in (["plan", *words], words, ["report"]):
        status, printed = run(*command)
        assert status == 0, printed
        assert not HOSTILE.search(printed), printed
    sweep = next(Path(os.environ["HARNESS_OUTPUTS"], "sweeps").glob("*/plan.json"))
    label = json.loads(sweep.read_text())["points"][0]["label"]
    prompt = ["model=fable_tiny", f"prompt={text}"]
    for command in (["replay", label, "decoding=greedy"], ["inspect", *prompt], ["generate", *prompt]):
        status, printed = run(*command)
        assert not HOSTILE.search(printed), printed


@pytest.mark.thinned(2)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_command_prints_in_every_encoding(run: Run, encoding: str) -> None:
    Path("p.txt").write_text("naïve 漢字 👩\n“quoted”\n", encoding="utf-8")
    words = [*WORDS, "prompts.file=p.txt", "-m", "decoding=greedy,top_p"]
    model = ["model=fable_tiny", "prompt=naïve 漢字 👩"]
    decoding = [
        (0, words),
        (0, ["report"]),
        (0, ["replay", "fable_tiny/none/top_p", "decoding.top_p=0.5"]),
        (0, ["inspect", *model]),
        (0, ["inspect", *model, "--json"]),
        (0, ["generate", *model]),
    ]
    for status, command in (
        (0, ["check", *words]),
        (0, ["plan", *words]),
        *(decoding if encoding == "ascii" else ()),
        (0, ["help", "decoding"]),
        (0, ["--cfg", "job", *words[:-2], "decoding=greedy"]),
        (2, ["check", "prompts.items=[漢字", "漢字=1"]),
        (2, ["漢字"]),
        (2, ["report", "漢字"]),
    ):
        found, printed = run(*command, encoding=encoding)
        assert found == status, printed
        assert printed
        assert "UnicodeEncodeError" not in printed


def test_marks_stay_different_where_an_encoding_lacks_them() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    signs = "✓✗↺▲▼↑↓≈·"
    before, sys.stdout = sys.stdout, stream
    try:
        with visible_streams():
            print(signs, end="")
            SafeConsole().print(Text(signs), end="")
    finally:
        sys.stdout = before
    stream.flush()
    written = stream.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert written[:9] == written[9:]
    assert len(set(written)) == 9
    assert "?" not in written
    assert stream.errors == "strict"


def test_a_pipe_of_another_encoding_gets_a_whole_plan(script: Callable[..., Any], tmp_path: Path) -> None:
    done: subprocess.CompletedProcess[str] = script(
        "plan",
        *WORDS,
        "prompts.items=['naïve 漢字']",
        folder=tmp_path,
        PYTHONIOENCODING="ascii",
        PYTHONUTF8="0",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "tokens <=" in done.stdout


class Terminal(io.StringIO):
    """A stream that rich takes for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", ESCAPES)
def test_every_way_to_print_goes_through_the_same_function(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Lines, warnings, tables, progress labels and what is printed beside bars; rich's own codes stay."""
    monkeypatch.setenv("TERM", "xterm")
    text, out = ESCAPES[kind], Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", out)
    with visible_streams():
        print(text)
        print(text, file=sys.stderr, flush=True)
        sys.stdout.writelines([text])
        sys.stderr.write(warnings.formatwarning(text, UserWarning, "file", 1))
        console = SafeConsole()
        table = Table(text, title=text)
        table.add_row(text)
        console.print(table)
        console.print(Text(text, style="red"), soft_wrap=True)
        console.file.write(console.styled(text, Style(color="red")))
        console.print(f"[bold]{text}[/bold] :smile:")
        with Progress(TextColumn("{task.description}"), console=console) as progress:
            progress.add_task(text)
        with Display(console, 1) as display:
            display.stage(text, 2, "tokens")
            print(text)
            sys.stderr.write(text + "\n")
            display.message(text)
            display.point(text, "done", "green")
            display.advance()
    printed = out.getvalue()
    own = re.compile(r"\x1b\[[0-9;]*[mAK]|\x1b\[\?25[lh]|\x1b\[2K|\r")
    if kind == "return":
        assert "\rfine" not in printed
    assert "\x1b[8m" not in printed
    assert not HOSTILE.search(own.sub("", printed)), printed
    assert "[bold]" in printed
    assert ":smile:" in printed


@pytest.mark.parametrize("text", ["caf\udce9", "a\ud800"], ids=["a byte", "a surrogate"])
@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "prompt=TEXT"],
        ["check", "prompts.items=['TEXT']"],
        ["check", "prompts.file='TEXT.txt'"],
        ["check", "generation.stop_strings=['TEXT']"],
        ["check", "TEXT=1"],
        ["check", "decoding=TEXT"],
        ["check", "+cases=[[decoding=TEXT]]"],
        ["check", "prompts.system=${oc.env:TEXT_HERE}"],
        ["check", "experiments=e"],
        ["check", "--config-dir", "TEXT"],
        ["help", "TEXT"],
        ["report", "TEXT"],
        ["replay", "TEXT", "decoding=greedy"],
        ["TEXT"],
    ],
    ids=" ".join,
)
def test_what_is_no_unicode_is_a_mistake_of_its_key(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], text: str
) -> None:
    Path("experiments").mkdir()
    escaped = json.dumps(text)
    Path("experiments/e.yaml").write_text(f"# @package _global_\nprompts: {{template: {escaped}}}\n")
    monkeypatch.setenv("TEXT_HERE", "caf\udce9")
    given = [word.replace("TEXT", text) if "TEXT_" not in word else word for word in words]
    status, printed = run(
        given[0], *(["model=fable_tiny"] if len(words) == 2 and "=" in words[1] else []), *given[1:]
    )
    assert status == 2, printed
    assert printed.count("\n") == 1, printed
    assert not printed.startswith("unexpected")
    assert re.search("byte 0xe9|U\\+D|not UTF-8|no sweep was run yet", printed)
