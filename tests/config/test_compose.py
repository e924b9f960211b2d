"""Fast composing gives the same as Hydra composing in full; cases are added to the product."""

import itertools
import time

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from harness.config.compose import Composer
from harness.config.groups import ConfigGroups
from harness.config.jobs import JobOverrides, jobs_with_cases, merge_overrides
from harness.config.points import Composed, make_points
from harness.config.schema import sections
from harness.config.search_path import CONFIG_NAME
from harness.config.sweep_size import MOST_POINTS
from harness.errors import ConfigError


@pytest.fixture(scope="module")
def groups():
    return ConfigGroups()


@pytest.fixture
def loader(groups):
    return groups.loader


@pytest.fixture
def counted(groups):
    """A composer, and the list of what Hydra had to compose."""
    loaded = []

    def load(overrides):
        loaded.append(overrides)
        return groups.loader.load_configuration(CONFIG_NAME, overrides, RunMode.RUN)

    return Composer(load, groups.is_self_contained), loaded


def compose(composer, job):
    return composer.compose(JobOverrides(tuple(job)))


def in_full(loader, overrides):
    """What Hydra composes from all overrides at once."""
    config = loader.load_configuration(CONFIG_NAME, list(overrides), RunMode.RUN)
    choices = {str(key): value for key, value in config.hydra.runtime.choices.items()}
    return OmegaConf.to_container(
        OmegaConf.masked_copy(config, [*sections(), "expect", "name"]), resolve=True
    ), choices


PRODUCT = [
    ["decoding=greedy", "decoding=top_p"],
    ["quantization=fp32", "quantization=bnb_nf4"],
    ["prompts=questions", "prompts=custom"],
    ["generation.seed=3", "decoding.repetition_penalty=1.5"],
]


def test_assembled_is_the_same_as_composed_in_full(loader, counted):
    composer, loaded = counted
    for job in itertools.product(*PRODUCT):
        composed = compose(composer, job)
        config, choices = in_full(loader, job)
        assert composed.config == config
        assert composed.choices == choices
    # Of the eight combinations of choices: the first one, and one more per choice that differs.
    assert len(loaded) == 1 + 3


def test_values_that_need_quotes_or_are_lists(loader, counted):
    composer, _ = counted
    for text in (
        "prompts.items=['a, b',c]",
        "prompts.template='{x}: y'",
        "decoding.top_p=null",
        "model.revision='1'",
    ):
        config, _ = in_full(loader, ["prompts=custom", text])
        assert compose(composer, ["prompts=custom", text]).config == config


def test_an_interpolation_sees_the_values(loader, counted):
    composer, _ = counted
    for budget in (5, 7):
        job = ["timing.new_tokens=${generation.max_new_tokens}", f"generation.max_new_tokens={budget}"]
        assert compose(composer, job).config["timing"]["new_tokens"] == budget


def test_a_choice_that_sets_other_sections_is_composed_in_full(tmp_path):
    folder = tmp_path / "decoding"
    folder.mkdir()
    (folder / "wide.yaml").write_text(
        "# @package _global_\ndecoding:\n  do_sample: true\ngeneration:\n  max_new_tokens: 99\n"
    )
    groups = ConfigGroups(str(tmp_path))
    loader = groups.loader
    load = lambda texts: loader.load_configuration(CONFIG_NAME, texts, RunMode.RUN)  # noqa: E731
    composer = Composer(load, groups.is_self_contained)
    for job in (["decoding=greedy"], ["decoding=wide"]):
        assert compose(composer, job).config == in_full(loader, job)[0]
    assert compose(composer, ["decoding=wide"]).config["generation"]["max_new_tokens"] == 99


def test_the_last_override_of_a_key_counts():
    assert merge_overrides(
        ["decoding=greedy", "generation.seed=1"], ["decoding=top_p", "+record.top_k=2"]
    ) == [
        "generation.seed=1",
        "decoding=top_p",
        "+record.top_k=2",
    ]


def overrides(typed, params, cases, groups):
    """The overrides of each job, as on a command line."""
    return [" ".join(job.overrides) for job in jobs_with_cases(typed, params, cases, groups)]


@pytest.mark.parametrize(
    ("typed", "params", "expected"),
    [
        # Nothing is swept: only the cases.
        ([], [], ["decoding=beam", "decoding=top_p"]),
        (["model=gpt2"], [], ["model=gpt2 decoding=beam", "model=gpt2 decoding=top_p"]),
        (["decoding=greedy"], [], ["decoding=beam", "decoding=top_p"]),
        # What is swept is combined with them, in the product's place where they make its choices.
        (
            ["quantization=fp32,bf16"],
            [],
            [
                "quantization=fp32 decoding=beam",
                "quantization=bf16 decoding=beam",
                "quantization=fp32 decoding=top_p",
                "quantization=bf16 decoding=top_p",
            ],
        ),
        # A product of an experiment stays.
        (
            [],
            ["generation.seed=1,2"],
            [
                "generation.seed=1",
                "generation.seed=2",
                "generation.seed=1 decoding=beam",
                "generation.seed=2 decoding=beam",
                "generation.seed=1 decoding=top_p",
                "generation.seed=2 decoding=top_p",
            ],
        ),
        # What a case names is its own: neither strategies nor their values are combined with it.
        (
            ["decoding=top_p", "decoding.top_p=0.8,0.9", "generation.seed=3"],
            [],
            [
                "decoding=top_p decoding.top_p=0.8 generation.seed=3",
                "decoding=top_p decoding.top_p=0.9 generation.seed=3",
                "generation.seed=3 decoding=beam",
                "generation.seed=3 decoding=top_p",
            ],
        ),
        # A single value of the params holds for the cases too.
        (
            ["quantization=fp32,bf16"],
            ["decoding=greedy", "prompts=questions"],
            [
                "decoding=greedy prompts=questions quantization=fp32",
                "decoding=greedy prompts=questions quantization=bf16",
                "prompts=questions quantization=fp32 decoding=beam",
                "prompts=questions quantization=bf16 decoding=beam",
                "prompts=questions quantization=fp32 decoding=top_p",
                "prompts=questions quantization=bf16 decoding=top_p",
            ],
        ),
    ],
)
def test_a_case_is_combined_with_what_it_does_not_name(groups, typed, params, expected):
    assert overrides(typed, params, [["decoding=beam"], ["decoding=top_p"]], groups) == expected


def test_a_case_without_a_choice_is_beside_the_product(groups):
    assert overrides(["decoding=greedy,beam"], [], [["generation.max_new_tokens=9"]], groups) == [
        "decoding=greedy",
        "decoding=beam",
        "decoding=greedy generation.max_new_tokens=9",
        "decoding=beam generation.max_new_tokens=9",
    ]


def test_a_case_fixes_the_keys_of_the_choice_that_it_makes(groups):
    case = ["decoding=top_p", "decoding.top_p=0.5", "generation.samples=2", "quantization.dtype=float32"]
    (job,) = jobs_with_cases([], [], [case], groups)
    assert job.fixed == {"decoding.top_p", "generation.samples"}


def test_the_points_of_cases_are_counted_before_they_are_made(groups):
    seeds = f"generation.seed=range(0,{MOST_POINTS})"
    with pytest.raises(ConfigError, match="at most 10,000"):
        jobs_with_cases([seeds], [], [["decoding=beam"], ["decoding=top_p"]], groups)


def test_a_choice_overrides_custom_keys_before_it():
    typed = ["prompts.file=mine.txt", "model.id=x", "prompts.limit=3"]
    assert merge_overrides(typed, ["prompts=questions"]) == [
        "model.id=x",
        "prompts.limit=3",
        "prompts=questions",
    ]
    assert merge_overrides(typed, ["prompts.items=[a]"]) == [*typed, "prompts.items=[a]"]


def test_without_cases_there_is_the_product(groups):
    assert overrides(["decoding=a,b", "quantization=c"], ["model=d"], [], groups) == [
        "model=d decoding=a quantization=c",
        "model=d decoding=b quantization=c",
    ]


@pytest.mark.parametrize("cases", ["decoding=greedy", ["decoding=greedy"], [[]], [[3]]])
def test_cases_must_be_lists_of_overrides(groups, cases):
    with pytest.raises(ConfigError, match="list of lists"):
        jobs_with_cases(["generation.seed=1"], [], cases, groups)


def test_every_choice_makes_a_point(groups, counted):
    composer, _ = counted
    extra = {
        "model=custom": "model.id=x",
        "prompts=custom": "prompts.items=[x]",
        "backend=openai": "backend.base_url=http://x/v1",
    }
    default = compose(composer, [])
    columns = [[(group, choice) for choice in groups.choices.get(group, [])] for group in sections()]
    for row in itertools.zip_longest(*columns):
        # Composed together, a choice of each group; a point of each, since not all go with one another.
        pairs = [pair for pair in row if pair]
        texts = [f"{group}={choice}" for group, choice in pairs]
        together = compose(composer, [*texts, *(extra[text] for text in texts if text in extra)])
        for text, (group, choice) in zip(texts, pairs, strict=True):
            config = {**default.config, group: together.config[group]}
            choices = {**default.choices, group: together.choices[group]}
            (point,) = make_points([Composed(config, choices, together.custom & {group})])
            assert getattr(point, group).name == ("x" if text == "model=custom" else choice)


def test_a_thousand_points_take_seconds(counted):
    composer, loaded = counted
    started = time.process_time()
    jobs = [
        [f"decoding={name}", f"quantization={quantization}", f"generation.seed={seed}"]
        for name in ("greedy", "top_p", "min_p", "beam")
        for quantization in ("fp32", "bf16", "bnb_nf4", "bnb_int8")
        for seed in range(63)
    ]
    points = make_points([compose(composer, job) for job in jobs])
    assert len(points) == len(jobs) == 1008
    assert len(loaded) == 1 + 3 + 3
    # Of the processor, so that a busy machine does not matter; about 1 s as measured.
    assert time.process_time() - started < 10
