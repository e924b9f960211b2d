"""Custom metrics: read without being run, run on what was read, every mistake one line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from harness.analysis.metrics.custom import CustomMetric, Generated, read_custom_metrics
from harness.errors import ConfigError, HarnessError

GENERATED = Generated("p", 0, "Say please.", "Please, please!", None, "eos", ())

MINE = '''
from __future__ import annotations
from dataclasses import dataclass

@dataclass(frozen=True)
class Count:
    word: str
    def __call__(self, generated):
        return generated.output.lower().count(self.word)

def politeness(generated):
    """How often it says please."""
    return Count("please")(generated)

politeness.better = "higher"
thanks = Count("thank")
number = 3
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(MINE, encoding="utf-8")
    return path


def test_what_was_read_is_what_is_run(mine: Path) -> None:
    politeness, thanks = read_custom_metrics(["mine.py:politeness", f"{mine}:thanks", "mine.py:politeness"])
    mine.write_text("raise SystemExit('never run')", encoding="utf-8")
    assert (politeness.of(GENERATED), thanks.of(GENERATED)) == (2, 0)
    known = politeness.described()
    assert (known.key, known.per_sample, known.better) == ("own/politeness", "own_politeness", "higher")
    assert known.description == "How often it says please."
    assert thanks.described().better is None
    assert politeness.code == thanks.code != CustomMetric("mine.py:politeness", b"other").code
    assert not list(mine.parent.glob("__pycache__"))


def test_reading_runs_nothing(mine: Path) -> None:
    mine.write_text("open('ran', 'w')\ndef f(generated): return 1\n", encoding="utf-8")
    read_custom_metrics(["mine.py:f"])
    assert not Path("ran").exists()


def test_every_mistake_at_once(mine: Path) -> None:
    Path("wrong.py").write_text("def f(:\n", encoding="utf-8")
    Path("null.py").write_bytes(b"\0")
    Path("other.py").write_text("def politeness(generated): return 0\n", encoding="utf-8")
    specs = ["gone.py:f", "mine.py:politness", "wrong.py:f", "null.py:f", "other.py:politeness"]
    with pytest.raises(ConfigError) as caught:
        read_custom_metrics(["mine.py:politeness", *specs])
    gone, misspelt, wrong, null, twice = map(str, caught.value.mistakes)
    assert gone == f"compare.metrics=gone.py:f: gone.py not found (looked in {Path.cwd()})"
    assert misspelt == (
        "compare.metrics=mine.py:politness: mine.py has no function 'politness'; did you mean politeness? "
        "(functions: dataclass, Count, politeness, thanks, number)"
    )
    assert wrong.startswith("compare.metrics=wrong.py:f: wrong.py is not valid Python in line 1: ")
    assert null.startswith("compare.metrics=null.py:f: null.py is not valid Python")
    assert twice == (
        "compare.metrics=other.py:politeness: has the same name as mine.py:politeness; "
        "rename one of the functions"
    )


@pytest.mark.parametrize("value", ["None", "float('nan')", "float('inf')"])
def test_no_number_is_none(value: str) -> None:
    assert not math.isfinite(CustomMetric("m.py:f", f"f = lambda generated: {value}".encode()).of(GENERATED))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(g): raise OSError('x\\n y')", "f raised OSError: x y for prompt 'p', sample 0; the samples"),
        ("def f(g): raise SystemExit(3)", "f raised SystemExit: 3 for prompt 'p', sample 0"),
        ("def f(g): return 'good'", "f returned 'good' (str), not a number or None, for prompt 'p', sample"),
        ("import nothing_like_it\ndef f(g): pass", "m.py cannot be run: ModuleNotFoundError: No module"),
        ("f = 3", "f is not a function"),
    ],
)  # fmt: skip
def test_errors(source: str, message: str) -> None:
    with pytest.raises(HarnessError) as caught:
        CustomMetric("m.py:f", source.encode()).of(GENERATED)
    assert str(caught.value).startswith(f"compare.metrics=m.py:f: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["True", "1", "1.0", "np.float32(1)", "np.int64(1)", "np.bool_(1)"])
def test_numbers_of_all_kinds(value: str) -> None:
    source = f"import numpy as np\ndef f(generated): return {value}"
    assert CustomMetric("m.py:f", source.encode()).of(GENERATED) == 1


def test_a_direction_that_is_none() -> None:
    with pytest.raises(HarnessError, match=r"f\.better is 'more', not higher or lower"):
        CustomMetric("m.py:f", b"def f(generated): return 1\nf.better = 'more'").described()


def test_a_metric_that_takes_its_argument_for_a_text_is_told_what_it_is(mine: Path) -> None:
    mine.write_text(
        "def f(text): return text.lower().count('please')\ndef g(sample): return len(sample.tokenz)\n",
        encoding="utf-8",
    )
    taken, misspelt = read_custom_metrics(["mine.py:f", "mine.py:g"])
    with pytest.raises(HarnessError, match=r"a sample has no 'lower'; its text is generated\.output: "):
        taken.of(GENERATED)
    with pytest.raises(HarnessError, match=r"a sample has no 'tokenz' \(it has prompt_id, sample, prompt, "):
        misspelt.of(GENERATED)
    mine.write_text("def f(text): return text.output.lower().count('please')\n", encoding="utf-8")
    assert read_custom_metrics(["mine.py:f"])[0].of(GENERATED) == 2
