"""Names of sweeps: titles derived from what varies, given ones, and their folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.config import hydra_app
from harness.config.point import Point
from harness.config.sweep_name import LONGEST, folder_name, read_name, sweep_title

Titled = Callable[..., tuple[str, str]]


@pytest.fixture
def titled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Titled:
    """`titled("decoding=greedy,top_p", ...)`: the title of a sweep and its folder's name."""
    monkeypatch.chdir(tmp_path)

    def of(*words: str, many: bool = True) -> tuple[str, str]:
        found: list[tuple[str, str]] = []

        def take(points: Sequence[Point], name: str, files: object) -> int:
            found.append((sweep_title(points, name), name))
            return 0

        assert hydra_app.run([*(["-m"] if many else []), *words], take) == 0
        return found[0]

    return of


@pytest.mark.parametrize(
    ("words", "title"),
    [
        ("decoding=greedy", "fable_small, greedy, storytelling"),
        ("decoding=greedy,top_p", "fable_small, 2 strategies, storytelling"),
        (
            "quantization=fp32,bf16 decoding=greedy,top_p,min_p",
            "fable_small, 2 quantizations x 3 strategies, storytelling",
        ),
        (
            "decoding=top_p decoding.temperature=0.5,1.0 decoding.top_p=0.7,0.8,0.9",
            "fable_small, top_p, 2 values of temperature x 3 values of top_p, storytelling",
        ),
        # greedy runs once: 1 + 2 points are no product
        (
            "decoding=greedy,top_p decoding.top_p=0.8,0.9",
            "fable_small, 2 strategies, 2 values of top_p, 3 points, storytelling",
        ),
        (
            "cache=default,quantized_fp8 decoding=greedy,top_p",
            "fable_small, 2 caches x 2 strategies, storytelling",
        ),
        ("model=fable_tiny,fable_small quantization=fp32", "fp32, greedy, 2 models, storytelling"),
    ],
)
def test_a_title_says_what_is_fixed_and_what_varies(titled: Titled, words: str, title: str) -> None:
    assert titled(*words.split()) == (title, "sweep")


def test_a_given_name_is_the_title_and_names_the_folder(titled: Titled) -> None:
    assert titled("decoding=greedy,top_p", 'name="How hot: 0.7/1.2?"') == (
        "How hot: 0.7/1.2?",
        "How-hot-0.7-1.2",
    )


def test_an_experiment_is_named_before_what_varies(titled: Titled) -> None:
    title, folder = titled("experiments=demo", many=False)
    assert folder == "demo"
    assert title == "demo: 2 models x 2 quantizations x 8 strategies, storytelling"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ("...", "sweep"),
        ("日本語", "sweep"),
        ("Größe & Co.", "Groe-Co"),
        ("-rf *", "rf"),
        ("a" * 300, "a" * 60),
        ("con\\aux:nul", "con-aux-nul"),
    ],
)
def test_a_folder_is_a_safe_file_name(name: str, folder: str) -> None:
    assert folder_name(name) == folder


@pytest.mark.parametrize(
    ("value", "name"),
    [(None, None), ("", None), (3, "3"), (True, "true"), ("a \n b", "a b"), ("a\u202eb\x1b[31m", "a b [31m")],
)
def test_a_name_is_one_line_of_what_is_printed(value: object, name: str | None) -> None:
    assert read_name(value) == (name, [])


@pytest.mark.parametrize("value", [["a"], {"a": 1}, " ", "\u200b", "x" * (LONGEST + 1), "\udcff"])
def test_what_is_no_name_is_a_mistake_in_one_line(value: object) -> None:
    name, (mistake,) = read_name(value)
    assert name is None
    assert str(mistake).startswith("name")
    assert "\n" not in str(mistake)
