"""Every code block of README and docs: commands and configs are right, Python runs, output is as shown."""

from __future__ import annotations

import json
import re
import sys
import tomllib
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.append(str(Path(__file__).parent))

from blocks import NAMES, PAGES, ROOT, Block, blocks, commands, commands_of_table

from harness.cli import show_plan
from harness.cli.generate_arguments import generate_arguments
from harness.cli.inspect_arguments import inspect_arguments
from harness.cli.main import COMMANDS, main
from harness.cli.replay_arguments import replay_arguments
from harness.config import hydra_app
from harness.config.arguments import Arguments, parse_arguments
from harness.config.groups import ConfigGroups
from harness.config.schema import SWEEP_KEYS, sections

BUILT_IN = ("fable_small", "fable_tiny")
IDLE = ("report", "sync", "ui", "worker")
"""Commands that take no overrides."""
WHOLE = ("docs/guides/own_strategy.md",)
"""Pages whose commands are composed and prepared in `make test` too: the files that they show are loaded."""
_OTHER_PACKAGE = re.compile(r"(?m)^pip install (?!'?decoding-harness)")
Check = Callable[..., None]


def prepared_here(points: Any) -> bool:
    """Return whether nothing is needed to prepare these points: no download, no package, no server."""
    return all(
        p.model.id in BUILT_IN
        and p.backend.kind == "hf"
        and p.quantization.torchao is None
        and not p.cache.quantized
        and not p.speculation.draft
        for p in points
    )


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """`check(words)`: the command composes, without a mistake or a line of warning, and could be run here.

    The points of a run are prepared as `harness check` does where the machine has what they need.
    """
    monkeypatch.chdir(tmp_path)
    show_check = show_plan.show_check
    groups: dict[tuple[str | None, ...], ConfigGroups] = {}
    made = hydra_app.config_groups

    def config_groups(arguments: Arguments) -> ConfigGroups:
        """Read the config groups once a folder of choices."""
        paths = tuple(text for text in arguments.overrides if "searchpath" in text)
        key = (arguments.config_dir, *paths)
        return groups.setdefault(key, made(arguments))

    def prepare(points: Any, name: str, *_: Any) -> int:
        return show_check(points, name) if prepared_here(points) else 0

    def done(*_: Any, **__: Any) -> int:
        return 0

    stored = types.SimpleNamespace(
        config=lambda: {"requested": {"decoding": {"do_sample": True, "top_p": 0.9}}}
    )
    for name, functions in {
        "harness.run.sweep": {"run_sweep": prepare},
        "harness.run.launchers": {"launch_of": done},
        "harness.cli.show_plan": {"show_plan": prepare, "show_check": prepare},
        "harness.cli.inspect": {"inspect": done},
        "harness.cli.generate": {"generate": done},
        "harness.cli.replay": {"find_samples": lambda *_: (stored, "point"), "show_replay": done},
        "harness.cli.server_doctor": {"server_doctor": done},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(hydra_app, "config_groups", config_groups)

    def run(words: list[str]) -> None:
        if words[0] in IDLE or words == ["doctor"]:
            return
        status = main(words)
        captured = capsys.readouterr()
        assert (status, captured.err) == (0, ""), f"harness {' '.join(words)}\n{captured.err}"

    return run


def write(block: Block, folder: Path) -> None:
    """Write the file that a block shows."""
    path = folder / block.title
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")


def shown_on(page: Path, folder: Path) -> list[Block]:
    """Return the blocks of a page; the files that they show are written."""
    found = blocks(page)
    # README's files are those of the tutorial.
    more = blocks(ROOT / "docs" / "start.md") if page.name == "README.md" else []
    for block in [*more, *found]:
        if block.title:
            write(block, folder)
        elif is_config(block):
            header = "# @package _global_\n"
            write(
                replace(block, title=f"experiments/shown_{block.line}.yaml", text=header + block.text), folder
            )
    return found


def is_config(block: Block) -> bool:
    """Return whether a block shows keys of a config, without a name for it."""
    if block.language != "yaml" or block.title:
        return False
    values = yaml.safe_load(block.text)
    return isinstance(values, dict) and values.keys() <= {*sections(), *SWEEP_KEYS, "defaults", "hydra"}


def commands_on(page: Path) -> list[list[str]]:
    """Return the commands of a page, each once: those of its blocks, and of README's table."""
    texts = [block.text for block in blocks(page) if block.language in ("bash", "console")]
    texts += commands_of_table(page) if page.name == "README.md" else []
    # What follows the installation of another package may need it.
    before = _OTHER_PACKAGE.split("\n".join(texts))[0]
    found = {tuple(words): words for words in commands(before)}
    return list(found.values())


def overrides_of(words: list[str]) -> list[str]:
    """Return the flags and overrides of a command."""
    name, rest = words[0], words[1:]
    if name == "replay":
        return replay_arguments(rest).overrides
    if name in ("inspect", "generate"):
        return (inspect_arguments if name == "inspect" else generate_arguments)(rest).overrides
    return rest if name in COMMANDS else words


@pytest.fixture(scope="module")
def known() -> ConfigGroups:
    return ConfigGroups()


MISTAKES = [
    words
    for page in PAGES
    for block in blocks(page)
    if block.language == "console"
    for words in commands(block.text.splitlines()[0])
]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_have_no_wrong_name(
    page: Path, known: ConfigGroups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every group, choice, key and experiment of a command is there; values are checked by the test below."""
    monkeypatch.chdir(tmp_path)
    has_files = any(block.title for block in shown_on(page, tmp_path))
    for words in commands_on(page):
        if words[0] in (*IDLE, "help") or words in MISTAKES:
            assert words[0] in COMMANDS or words in MISTAKES
            continue
        arguments = parse_arguments(overrides_of(words))
        checked = hydra_app.check(arguments, hydra_app.config_groups(arguments) if has_files else known)
        assert [str(mistake) for mistake in checked.mistakes] == [], words
        assert not checked.sweeps or arguments.has("-m"), words


@pytest.mark.parametrize(
    "page",
    [
        page if name in WHOLE else pytest.param(page, marks=pytest.mark.slow)
        for name, page in zip(NAMES, PAGES, strict=True)
    ],
    ids=NAMES,
)
def test_commands_and_configs_are_right(page: Path, check: Check, tmp_path: Path) -> None:
    found = shown_on(page, tmp_path)
    for words in commands_on(page):
        if words not in MISTAKES:
            check(words)
    for block in found:
        if is_config(block):
            check(["check", f"experiments=shown_{block.line}"])
        elif block.language == "yaml" and block.title.startswith("experiments/"):
            check(["check", f"experiments={Path(block.title).stem}"])
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            for line in block.text.splitlines() if block.title.endswith(".jsonl") else [block.text]:
                json.loads(line)


PYTHON = [(page, block) for page in PAGES for block in blocks(page) if block.language == "python"]


@pytest.mark.parametrize(
    ("page", "block"), PYTHON, ids=[f"{page.name}:{block.line}" for page, block in PYTHON]
)
def test_python_compiles(page: Path, block: Block) -> None:
    """One that stands by itself and asserts something runs here too; the test below runs all of a page."""
    code = compile(block.text, f"{page.name}:{block.line}", "exec")
    alone = block.text.startswith(("import ", "from ")) and "import harness\n" not in block.text
    if alone and "\nassert " in block.text:
        exec(code, {"__name__": "shown"})


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    # tests/api runs the guide to the API.
    dict.fromkeys(page for page, _ in PYTHON if page.parent.name != "reference" and page.name != "python.md"),
    ids=lambda page: page.name,
)
def test_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """From top to bottom, as in a notebook, beside the files that it shows; the reference only quotes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, Any] = {"__name__": "shown"}
    for block in shown_on(page, tmp_path):
        if block.language == "python":
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), names)


def shown_commands(cheap: bool) -> list[tuple[str, list[str], list[str]]]:
    """Return the commands of console blocks, with their output: those that load no model, or the others."""
    found = []
    for name, page in zip(NAMES, PAGES, strict=True):
        for block in blocks(page):
            if block.language == "console":
                command, *output = block.text.splitlines()
                (words,) = commands(command)
                if (words[0] not in ("generate", "inspect")) == cheap:
                    found.append((f"{name}:{block.line}", words, output))
    return found


def compare(words: list[str], output: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command; what it prints is what is shown, where a line that ends in ... may go on."""
    status = main(words)
    captured = capsys.readouterr()
    # What is on the terminal beside a model's text is not shown.
    printed = (captured.out if words[0] in ("generate", "inspect") else captured.err).rstrip().splitlines()
    assert status == (0 if words[0] in ("generate", "inspect") else 2)
    assert len(printed) == len(output), printed
    for line, shown in zip(printed, output, strict=True):
        assert line.startswith(shown.removesuffix("...")) if shown.endswith("...") else line == shown


@pytest.mark.parametrize(
    ("words", "output"),
    [one[1:] for one in shown_commands(True)],
    ids=[one[0] for one in shown_commands(True)],
)
def test_mistakes_are_reported_as_shown(
    words: list[str],
    output: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    compare(words, output, capsys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "output"),
    [one[1:] for one in shown_commands(False)],
    ids=[one[0] for one in shown_commands(False)],
)
def test_texts_are_generated_as_shown(
    words: list[str],
    output: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    one_thread: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    compare(words, output, capsys)


def test_examples_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\nA=1 harness -m a=1,2 \\\n    b=2  # so\nmake x && harness y\n```\n\n"
        '```yaml title="z.yaml"\na: 1\n```\n'
    )
    first, second = blocks(page)
    assert commands(first.text) == [["-m", "a=1,2", "b=2"], ["y"]]
    assert (second.language, second.title, second.line) == ("yaml", "z.yaml", 7)


def test_mistakes_in_examples_are_found(check: Check) -> None:
    for words in (["decoding=top_q"], ["decoding=greedy,top_p"], ["check", "decoding.top_p=2"]):
        with pytest.raises(AssertionError):
            check(words)
