"""Config files of a user: they run no code, set only a sweep of Hydra's keys, and are one line if wrong."""

from pathlib import Path

import pytest

from harness.cli.main import main

GLOBAL = "# @package _global_\n"
TARGET = "{_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [ran]}}"
FILE = "{version: 1, root: {handlers: [a]}, handlers: {a: {class: logging.FileHandler, filename: ran}}}"
ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)

OF_HYDRA = {
    "callbacks": f"hydra: {{callbacks: {{x: {TARGET}}}}}",
    "launcher": f"hydra: {{launcher: {TARGET}}}",
    "sweeper": f"hydra: {{sweeper: {TARGET}}}",
    "job logging": f"hydra: {{job_logging: {FILE}}}",
    "hydra's logging": f"hydra: {{hydra_logging: {FILE}}}",
    "logging by its group": "defaults:\n  - override hydra/job_logging: default",
    "the same from the root": "defaults:\n  - override /hydra/job_logging: default",
    "another launcher": "defaults:\n  - override /hydra/launcher: basic",
    "a package": "defaults:\n  - /decoding@hydra.callbacks.x: greedy",
    "another file": "defaults:\n  - other",
    "environment": "hydra: {job: {env_set: {LD_PRELOAD: x}}}",
    "folders": "hydra: {run: {dir: ran}}",
    "folders of a sweep": "hydra: {sweep: {dir: ran, subdir: ran}, mode: MULTIRUN}",
    "changing the folder": "hydra: {job: {chdir: true}}",
    "a search path": "hydra: {searchpath: [file:///tmp]}",
    "no mapping": "hydra: 5",
}
UNREADABLE = {
    "a cycle": "a: &a [*a]",
    "a cycle of keys": "a: &a {b: *a}",
    "depth": "a: " + "[" * 600 + "]" * 600,
    "depth by aliases": "".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else 'x'}]\n" for i in range(80)),
    "size by aliases": ALIASES,
    "an object": "a: !!python/object/apply:os.mkdir [ran]",
    "a list as a key": "? [a, b]\n: c",
    "a key twice": "generation: {seed: 1, seed: 2}",
    "a huge number": "generation: {seed: " + "9" * 5000 + "}",
    "a control character": "a: \0",
    "no UTF-8": "a: \udce9",
    "no YAML": "a: [",
}


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Runs commands on a folder, of which nothing may appear; returns status and lines on stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("experiments", "mine/decoding"):
        (tmp_path / name).mkdir(parents=True)

    def run(*words):
        before = {str(path) for path in tmp_path.rglob("*")}
        status = main([*words, "model=fable_tiny", "tracking=off"])
        assert {str(path) for path in tmp_path.rglob("*")} == before
        return status, capsys.readouterr().err.splitlines()

    return run


def write(path, text):
    Path(path).write_bytes((GLOBAL + text + "\n").encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        *((kind, "check") for kind in OF_HYDRA),
        *(("job logging", words) for words in ("plan", "--info config", "--cfg hydra")),
        *(("another file", words) for words in ("--info config", "--cfg hydra")),
    ],
)
def test_an_experiment_sets_of_hydra_only_the_sweep(said, kind, words):
    write("experiments/other.yaml", OF_HYDRA["callbacks"])
    write("experiments/mine.yaml", OF_HYDRA[kind])
    status, lines = said(*words.split(), "experiments=mine")
    assert status == 2
    assert lines
    assert all("files may set only hydra.mode and hydra.sweeper.params" in line for line in lines)


@pytest.mark.parametrize("header", ["# @package _global_\n", "# @package hydra.callbacks.x\n"])
@pytest.mark.parametrize("by", ["--config-dir mine", "hydra.searchpath=[mine]"])
def test_nor_does_a_choice(said, header, by):
    body = f"hydra: {{callbacks: {{x: {TARGET}}}}}" if "global" in header else "_target_: os.getcwd"
    Path("mine/decoding/evil.yaml").write_text(header + body)
    Path("mine/decoding/fine.yaml").write_text("do_sample: true\ntemperature: 0.9\n")
    status, lines = said("check", *by.split(), "decoding=evil")
    assert status == 2
    assert all(line.startswith("hydra.callbacks.x") for line in lines)
    assert said("check", *by.split(), "decoding=fine") == (0, [])


@pytest.mark.parametrize("name", ["experiments=mine", "decoding=mine"])
@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_cannot_be_read_is_named(said, name, text):
    write("experiments/mine.yaml", text)
    write("mine/decoding/mine.yaml", text)
    status, (line,) = said("check", "--config-dir", "mine", name)
    assert status == 2
    assert line.startswith(f"{name}: ")
    assert f"{name.replace('=', '/')}.yaml" in line
    assert len(line) < 600


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "defaults:\n  - override /decoding: greedy\n  - override /decoding: top_p",
            "decoding=greedy: no effect, ",
        ),
        ("generation.seed: 5", "generation.seed: a key of a file is not dotted; write `generation:`"),
        ("cases:\n  - [generation.seed=1, generation.seed=2]", "cases: generation.seed=1: no effect, "),
        ("cases:\n  - [hydra.mode=RUN]", "cases: hydra.mode=RUN: is about the whole sweep"),
        ("cases:\n  - [decoding=greedy, 'expect=[]']", "cases: expect=[]: is about the whole sweep"),
        ("hydra: {sweeper: {params: {hydra.mode: RUN}}}", "hydra.mode=RUN: is about the whole sweep"),
        ("hydra: {sweeper: {params: {expect: '[]'}}}", "expect=[]: is about the whole sweep"),
        ("hydra: {sweeper: {params: {decoding: glob(zz*)}}}", "decoding=glob(zz*): gives no value"),
        ("hydra: {sweeper: {params: {generation.seed: 'range(0,100000000)'}}}", "makes 100,000,000 points"),
        ("defaults: 5", "defaults: 5: must be a list"),
    ],
)
def test_what_would_have_no_effect_is_said(said, text, line):
    write("experiments/mine.yaml", text)
    status, (shown,) = said("check", "experiments=mine")
    assert status == 2
    assert shown.startswith("experiments/mine.yaml: ")
    assert line in shown
