"""Sweeps are counted before any point of them is made."""

import tracemalloc

import pytest

from harness.cli.main import main
from harness.config.groups import ConfigGroups
from harness.config.overrides import check_overrides, parse_override
from harness.config.sweep_size import MOST_POINTS, check_product, value_count
from harness.errors import ConfigError

CHOICES = {"decoding": ["greedy", "top_k", "top_p"]}


@pytest.mark.parametrize(
    ("override", "count"),
    [
        ("decoding=greedy", 1),
        ("decoding=greedy,top_p", 2),
        ("decoding=choice(greedy,top_p,top_k)", 3),
        ("decoding=glob(*)", 3),
        ("decoding=glob(top*)", 2),
        ("decoding=glob(*,exclude=greedy)", 2),
        ("decoding=glob(zz*)", 0),
        ("generation.seed=range(3)", 3),
        ("generation.seed=range(1,8,3)", 3),
        ("generation.seed=range(8,1,-3)", 3),
        ("generation.seed=range(0,-1)", 0),
        ("decoding.top_p=range(0.1,0.5,0.1)", 4),
        ("generation.seed=shuffle(range(0,100000000))", 100_000_000),
        ("generation.seed=sort(3,1,2)", 3),
        ("generation.seed=tag(a,choice(1,2))", 2),
        ("prompts.items=[a,b]", 1),
    ],
)
def test_the_number_of_values_is_that_of_hydra(override, count):
    parsed = parse_override(override)
    assert value_count(parsed, CHOICES) == count
    if parsed.is_sweep_override() and "glob" not in override and count < MOST_POINTS:
        assert len(list(parsed.sweep_iterator())) == count


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("decoding=glob(zz*)", "gives no value"),
        ("generation.seed=range(0,0)", "gives no value"),
        ("generation.seed=range(5,0)", "gives no value"),
        ("generation.seed=glob(*)", "glob(...) finds choices of a config group"),
        ("generation.seed=range(0,100000000)", "makes 100,000,000 points, a sweep has at most 10,000"),
        ("generation.seed=range(0,1,1e-300)", "points, a sweep has at most 10,000"),
        ("generation.seed=range(0,1,0)", "a step other than 0"),
        ("generation.seed=range(0,inf)", "finite numbers"),
        ("decoding.top_p=interval(0,1)", "write range(START,STOP,STEP)"),
        ("experiments=glob(*)", "one experiment at a time"),
        ("experiments=range(0,100000000)", "one experiment at a time"),
        ("expect=[],[{output: a}]", "is about the whole sweep; write one list"),
        ("cases=[],[]", "is about the whole sweep; write one list"),
    ],
)
def test_values_that_make_no_sweep_are_refused_at_once(override, line):
    groups = ConfigGroups()
    tracemalloc.start()
    (mistake,) = check_overrides([override], groups).mistakes
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert mistake.key == override
    assert line in mistake.message


def test_the_product_is_counted_too():
    swept = [
        parse_override(text) for text in ("generation.seed=range(0,200)", "generation.samples=range(1,60)")
    ]
    with pytest.raises(ConfigError, match=r"seed=range\(0,200\), .*: makes 11,800 points"):
        check_product(swept, CHOICES)
    check_product(swept[:1], CHOICES)


def test_a_glob_is_a_sweep_over_its_choices(capsys):
    words = ["model=fable_tiny", "timing=off", "tracking=off", "prompts.limit=1"]
    assert main(["check", "-m", *words, "decoding=glob(top_*,exclude=top_h)"]) == 0
    assert capsys.readouterr().out.startswith("4 points")
