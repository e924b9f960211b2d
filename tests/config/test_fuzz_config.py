"""Random configs, command lines and experiment files: each is right, or one clear line says what is not.

What `check` passes is planned too. Every case comes from its number, so that a failure can be run again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.main import main
from harness.config.groups import ConfigGroups
from harness.config.points import make_points
from harness.config.schema import sections, value_keys
from harness.errors import ConfigError

LONG = "x" * 300
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 64, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**30, 0.5, 1.0, -0.5,
    1e-320, 1e308,
    1e15, 1e16, 0.9, "", " ", "a", "auto", "none", "off", "5", "0.5", "nan", "inf", "???", LONG,
    "/" + LONG, "~", "~/",
    "~nouser/x", "~nouser/x.txt", "/dev/zero", "/dev/null", "/", ".", "..", "mine.txt", "mine.jsonl",
    "here", "loop",
    "loop/x.csv", f"{LONG}.jsonl", "x.py:f", "a\nb", "a\tb", "a\0b", "\x1b[31m", "\u202e", "\ud800", "é",
    "{", "{}", "{x}",
    "{{ x }}", "{% for %}", "${", "${nope}", "${oc.env:NOPE}", "${oc.env:NUMBER}", "${generation.seed}",
    "${hydra:job}",
    "${oc.decode:x}", "$(x)", "cuda", "cuda:99", "flash_attention_2", "sqlite:///x/y.db", "http://[",
    "file:///x",
    [], [[]], [1], [0, 1.5], [[1, 2]], [99999999], [[2**40]], ["a"], [""], [None], {}, {"a": 1},
    {"x": {"y": [1]}},
    [{"prompt": "a"}], [{"prompt": "a", "id": "b"}, {"prompt": "c", "id": "b"}], [{"messages": []}], [{}],
    ["text/distinct_2", "nope"], ["mine.py:f"], ["mine.py:g"], [f"/{LONG}.py:f"], ["~nouser/x.py:f"],
)  # fmt: skip
WORDS = (
    "=", "a", "a=b", "~decoding", "~generation.seed", "+x=1", "++generation.seed=3", "decoding@x=greedy",
    "generation",
    "generation.seed", "generation.seed.x=1", "generation={seed:1}", "generation=5", "generation.seed =1",
    " generation.seed=1", "Generation.seed=1", "generation..seed=1", ".seed=1", "decoding=",
    "decoding=null",
    "decoding=greedy,top_p", "decoding=glob(*)", "decoding=glob(zz*)", "generation.seed=range(0,3)",
    "generation.seed=range(0,100000000)", "generation.seed=range(0,0)", "generation.seed=range(0,1,0)",
    "generation.seed=interval(0,1)", "generation.seed=choice(1,2)", "generation.seed=shuffle(range(0,3))",
    "generation.seed=sort(3,1)", "generation.seed=tag(x,choice(1,2))", "generation.seed=int(1.5)",
    "generation.seed=str(1)",
    "generation.seed=[", "generation.seed='", "generation.seed=1_0", "generation.seed=0x10",
    "generation.seed=1e3",
    "cases=[[decoding=greedy]]", "cases=[]", "cases=5", "cases=[[]]", "'cases=[[x]]'", "expect=[]",
    "expect=[{}]", "expect=5",
    "expect=[{output:a}]", "expect=[{prompt:nope,output:a}]", "expect=[{metric:nope,min:0}]",
    "expect=[{top:{}}]",
    "expect=[{output_ids:[99999]}]", "experiments=nope", "experiments=mine", "experiments=mine,mine",
    "experiments=glob(*)",
    "hydra.mode=RUN", "hydra.mode=MULTIRUN", "hydra.mode=WALK", "hydra.run.dir=x", "hydra.sweep.dir=x",
    "hydra.verbose=true",
    "hydra.callbacks.x._target_=os.getcwd", "hydra.searchpath=[/nowhere]", "hydra.searchpath=5",
    "hydra.sweeper.params=5",
    "hydra.sweeper.params={decoding:5}", "hydra.job.env_set.A=1", "hydra/launcher=basic", "-m", "-m", "-m",
    "--multirun",
)  # fmt: skip
GOOD = """# @package _global_
# One of every kind of thing.
defaults:
  - override /prompts: storytelling
  - override /timing: "off"
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      decoding: greedy,top_p
      generation.seed: 1,2
generation:
  max_new_tokens: 5
  stop_strings: ["."]
decoding:
  suppress_tokens: [1, 2]
expect:
  - {prompt: stormy, output_start: " night", sample: 0}
  - {metric: text/distinct_2, min: 0.5}
cases:
  - [decoding=beam, generation.max_new_tokens=4]
"""
PIECES = (
    "&a ", "*a", "<<: *a", "[", "]", "{", "}", ": ", "- ", "? ", "!!python/object/apply:os.getcwd []",
    "!!int ", "%YAML 9\n",
    "---\n", "...\n", "\t", "\0", "\u2028", "\ufeff", "#", "|\n", "'", '"', "@", "${oc.env:NOPE}",
    "${hydra:job}", "???", "~",
    "9" * 5000, "2001-13-45", "1:2:3", "generation.seed: 5\n", "generation: 5\n", "generation:\n",
    "_self_", "- _self_\n",
    "hydra:\n  callbacks:\n    x: {_target_: os.getcwd}\n", "override /decoding: greedy", "- mine\n",
    "- /decoding@x: greedy\n",
    "optional ", "experiments: mine\n", "cases: [[hydra.mode=RUN]]\n", "range(0,100000000)", "glob(zz*)",
    "[" * 60,
)  # fmt: skip


def random_value(draw: random.Random) -> Any:
    value = draw.choice(VALUES)
    if draw.random() < 0.15:
        return [value, draw.choice(VALUES)]
    return {draw.choice(["prompt", "id", "messages", "x"]): value} if draw.random() < 0.05 else value


def typed(value: Any, draw: random.Random) -> str:
    """A value as somebody would type it: quoted as it should be, or not."""
    if isinstance(value, str):
        return value if draw.random() < 0.5 else "'" + value.replace("'", "\\'") + "'"
    return "null" if value is None else json.dumps(value).replace('": ', '":').replace('"', "'")


def random_words(number: int, groups: dict[str, list[str]]) -> list[str]:
    draw = random.Random(number)
    words = []
    for _ in range(draw.choice([1, 1, 2, 3])):
        kind = draw.random()
        if kind < 0.55:
            words.append(f"{draw.choice(value_keys())}={typed(random_value(draw), draw)}")
        elif kind < 0.75:
            group = draw.choice([name for name in groups if name not in ("model", "experiments")])
            words.append(f"{group}={draw.choice([*groups[group], 'nope', ','.join(groups[group][:2])])}")
        else:
            words.append(draw.choice(WORDS))
    return words


def random_experiment(number: int) -> bytes:
    """The good file with some lines or characters taken out,
    doubled or put in; or one of random structure."""
    draw = random.Random(number)
    if draw.random() < 0.4:
        content: dict[str, Any] = yaml.safe_load(GOOD)
        for _ in range(draw.choice([1, 2])):
            node: Any = content
            path = [draw.choice([*content, "hydra", "model", "engine", draw.choice(list(sections()))])]
            while isinstance(node.get(path[-1]), dict) and node[path[-1]] and draw.random() < 0.8:
                node = node[path[-1]]
                path.append(draw.choice([*node, draw.choice(value_keys()).partition(".")[2]]))
            node[path[-1]] = random_value(draw)
        return ("# @package _global_\n" + yaml.safe_dump(content)).encode("utf-8", "surrogatepass")
    text = GOOD
    for _ in range(draw.choice([1, 1, 2])):
        lines = text.splitlines(keepends=True)
        at, where = draw.randrange(len(lines)), draw.randrange(len(text))
        text = draw.choice([
            text[:where] + draw.choice(PIECES) + text[where:],
            "".join([*lines[:at], draw.choice(PIECES) + "\n", *lines[at:]]),
            "".join([*lines[:at], lines[at], *lines[at:]]),
            "".join([*lines[:at], *lines[at + 1 :]]),
            text[:where] + text[where + 1 :],
        ])  # fmt: skip
    data = text.encode()
    return data if draw.random() < 0.95 else data[: draw.randrange(len(data))] + b"\xff" + data[5:]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBER", "5")
    for name, text in {
        "mine.txt": "One.\nTwo.\n",
        "mine.jsonl": "[\n",
        "mine.py": "def f(x): return 1\n",
    }.items():
        Path(name).write_text(text)
    for name in ("here", "experiments"):
        Path(name).mkdir()
    Path("loop").symlink_to("loop")
    Path("experiments/mine.yaml").write_text(GOOD)
    return tmp_path


@pytest.fixture
def judge(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., int]:
    """Runs `harness check`, and `harness plan` of what passes if wanted; asserts what is said."""

    def run(*words: str, plan: bool = False) -> int:
        capsys.readouterr()
        status = main(["check", "model=fable_tiny", "tracking=off", *words])
        printed = capsys.readouterr()
        lines = printed.err.splitlines()
        if status == 0:  # what has no effect on a command line is said, but no mistake
            lines = [line for line in lines if ": no effect, " not in line]
        assert status in (0, 2), printed.err
        assert "Traceback" not in printed.err
        assert not any(line.startswith("unexpected ") for line in lines), lines
        assert "Warning" not in printed.err
        assert len(set(lines)) == len(lines), lines
        assert all(line.strip() for line in lines), lines
        assert bool(lines) == (status == 2), lines
        for line in lines:
            key, _, hint = line.partition(": no such key; did you mean ")
            assert key != hint.rstrip("?"), line
        if plan and status == 0:
            assert main(["plan", "model=fable_tiny", "tracking=off", *words]) == 0
        assert not (folder / "outputs").exists()
        return status

    return run


def check_commands(judge: Callable[..., int], numbers: range) -> set[int]:
    groups = ConfigGroups().choices
    found = set()
    for number in numbers:
        words = random_words(number, groups)
        try:
            found.add(judge(*words, plan=number % 10 == 0))
        except BaseException as error:
            error.add_note(f"command {number}: {words}")
            raise
    return found


def check_experiments(judge: Callable[..., int], numbers: range) -> set[int]:
    found = set()
    for number in numbers:
        Path("experiments/fuzzed.yaml").write_bytes(random_experiment(number))
        try:
            found.add(judge("experiments=fuzzed", plan=number % 10 == 0))
        except BaseException as error:
            error.add_note(f"experiment {number}: {random_experiment(number).decode(errors='replace')}")
            raise
    return found


@pytest.mark.thinned(6)
@pytest.mark.parametrize("seed", range(6))
def test_values_of_every_key(composed: Any, folder: Path, seed: int) -> None:
    """Nasty values at each key: a point, or lines that say what is wrong, each once."""
    draw = random.Random(seed)
    for key in value_keys():
        for value in draw.sample(VALUES, 7):
            try:
                make_points([composed({key: value})] if key.partition(".")[0] in composed().config else [])
            except ConfigError as error:
                lines = [str(mistake) for mistake in error.mistakes]
                assert all(line.strip() for line in lines)
                assert len(set(lines)) == len(lines)


@pytest.mark.parametrize(
    "seeds", [range(12), pytest.param(range(12, 32), marks=pytest.mark.slow)], ids=["few", "more"]
)
def test_commands(judge: Callable[..., int], seeds: range) -> None:
    assert check_commands(judge, seeds) == {0, 2}


@pytest.mark.parametrize("count", [12, pytest.param(32, marks=pytest.mark.slow)])
def test_experiments(judge: Callable[..., int], count: int) -> None:
    assert judge("experiments=mine", plan=True) == 0
    assert check_experiments(judge, range(count)) == {0, 2}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_many_commands(judge: Callable[..., int], part: int) -> None:
    check_commands(judge, range(1000 + 100 * part, 1050 + 100 * part))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_many_experiments(judge: Callable[..., int], part: int) -> None:
    check_experiments(judge, range(1000 + 100 * part, 1050 + 100 * part))
