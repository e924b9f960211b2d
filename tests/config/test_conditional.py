"""Keys that not every strategy of a command uses: who gets them, who runs once, and what is said of it."""

import itertools

import pytest

from harness.cli.main import main
from harness.config import hydra_app


@pytest.fixture
def points(monkeypatch, tmp_path):
    """`points("decoding=greedy,top_p", ...)`: the points of a sweep, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def of(*words):
        found = []

        def take(points, name, files):
            found.extend(points)
            return 0

        assert hydra_app.run(["-m", *words], take) == 0
        return found

    return of


def labels(points):
    return [point.label.removeprefix("fable_small/none/") for point in points]


def notes(points):
    return list(dict.fromkeys(note for point in points for note in point.notes))


def test_deterministic_strategies_take_one_sample(points):
    found = points("decoding=greedy,top_p,min_p,beam", "generation.samples=3")
    assert labels(found) == ["greedy", "top_p", "min_p", "beam"]
    assert [point.generation.samples for point in found] == [1, 3, 3, 1]
    line = "generation.samples=3: greedy and beam are deterministic and take one sample per prompt"
    assert [point.notes for point in found] == [(line,), (), (), (line,)]


def test_such_a_point_is_the_plain_one(points):
    (plain,) = points("decoding=greedy")
    beside = points("decoding=greedy,top_p", "generation.samples=3", "decoding.top_p=0.8,0.9")[0]
    assert beside.model_copy(update={"notes": ()}) == plain


def test_a_swept_key_collapses_the_strategies_that_do_not_use_it(points):
    found = points("decoding=greedy,top_p", "decoding.top_p=0.8,0.9")
    assert labels(found) == ["greedy", "top_p top_p=0.8", "top_p top_p=0.9"]
    assert notes(found) == [
        "decoding.top_p=0.8,0.9: not used by greedy, which runs without it, not once per value"
    ]


def test_each_strategy_varies_its_own_key_and_all_that_draw_the_temperature(points):
    found = points(
        "decoding=greedy,top_p,min_p,beam",
        "decoding.top_p=0.8,0.9",
        "decoding.min_p=0.1",
        "decoding.num_beams=2,3",
        "decoding.temperature=0.7,1.2",
    )
    expected = [
        "greedy",
        *(f"top_p temperature={t} top_p={p}" for p, t in itertools.product((0.8, 0.9), (0.7, 1.2))),
        *(f"min_p temperature={t}" for t in (0.7, 1.2)),
        *(f"beam num_beams={n}" for n in (2, 3)),
    ]
    assert labels(found) == expected
    assert {point.decoding.min_p for point in found if point.decoding.name == "min_p"} == {0.1}
    assert {point.decoding.min_p for point in found if point.decoding.name != "min_p"} == {None}
    assert len(notes(found)) == 4


def test_a_key_that_no_strategy_is_about_applies_to_all(points):
    found = points("decoding=greedy,top_p", "decoding.repetition_penalty=1.1,1.3")
    assert [point.decoding.repetition_penalty for point in found] == [1.1, 1.3, 1.1, 1.3]
    assert notes(found) == []


def test_keys_of_a_grid_share_a_line(points):
    found = points("decoding=greedy,top_p", "decoding.top_p=0.8,0.9", "decoding.min_p=0.1,0.2")
    assert len(found) == 1 + 4
    # min_p is of no strategy here; top_p makes it an effect, greedy none.
    assert sorted(notes(found)) == [
        "decoding.min_p=0.1,0.2: not used by greedy, which runs without it, not once per value",
        "decoding.top_p=0.8,0.9: not used by greedy, which runs without it, not once per value",
    ]
    found = points("decoding=greedy,temperature", "decoding.temperature=0.5,1", "decoding.top_k=5,9")
    assert notes(found) == [
        "decoding.temperature=0.5,1.0, decoding.top_k=5,9: not used by greedy, which runs without them, "
        "not once per value"
    ]


def test_seeds_are_of_what_draws(points):
    found = points("decoding=greedy,top_p", "generation.seed=5,6")
    assert labels(found) == ["greedy", "top_p seed=5", "top_p seed=6"]
    assert notes(found) == ["generation.seed=5,6: greedy is deterministic and runs once"]
    assert notes(points("decoding=greedy,top_p", "generation.seed=5")) == []


def test_searches_have_their_own_keys_and_outputs(points):
    found = points(
        "decoding=greedy,top_p,contrastive_search,diverse_beam",
        "decoding.penalty_alpha=0.2,0.4",
        "decoding.num_beam_groups=2,3",
        "generation.samples=3",
    )
    assert [(p.decoding.name, p.decoding.penalty_alpha, p.decoding.num_beam_groups) for p in found] == [
        ("greedy", None, None),
        ("top_p", None, None),
        ("contrastive_search", 0.2, None),
        ("contrastive_search", 0.4, None),
        ("diverse_beam", None, 2),
        ("diverse_beam", None, 3),
    ]
    assert [point.generation.samples for point in found] == [1, 3, 1, 1, 3, 3]
    assert labels(found) == [
        "greedy",
        "top_p",
        *(f"contrastive_search penalty_alpha={alpha}" for alpha in (0.2, 0.4)),
        *(f"diverse_beam num_beam_groups={groups}" for groups in (2, 3)),
    ]


def test_words_are_of_the_search_that_has_some(points):
    strategies = "decoding=greedy,beam,constrained_beam,stochastic_beam"
    found = points(strategies, "decoding.force_words=[fox,rain]", "generation.samples=3")
    words = [(point.decoding.name, point.decoding.force_words) for point in found]
    assert words == [
        ("greedy", None),
        ("beam", None),
        ("constrained_beam", ("fox", "rain")),
        ("stochastic_beam", None),
    ]
    assert [point.generation.samples for point in found] == [1, 1, 1, 3]


def test_a_search_has_as_many_samples_as_outputs(points):
    found = points("decoding=greedy,diverse_beam,top_p", "generation.samples=8")
    assert [point.generation.samples for point in found] == [1, 6, 8]
    assert notes(found) == [
        "generation.samples=8: greedy is deterministic and takes one sample per prompt",
        "generation.samples=8: diverse_beam has 6 outputs per prompt",
    ]
    assert labels(found) == ["greedy", "diverse_beam", "top_p"]
    found = points("decoding=greedy,diverse_beam,cot", "generation.samples=8")
    assert [point.generation.samples for point in found] == [1, 6, 8]
    found = points("decoding=greedy,diverse_beam", "generation.samples=3", "generation.seed=1,2")
    assert [point.generation.samples for point in found] == [1, 1, 3, 3]


def test_quantizations_and_caches_too(points):
    key = "quantization.bnb_4bit_use_double_quant"
    found = points("quantization=fp32,bnb_nf4", f"{key}=true,false")
    assert [(p.quantization.name, p.quantization.bnb_4bit_use_double_quant) for p in found] == [
        ("fp32", False),
        ("bnb_nf4", True),
        ("bnb_nf4", False),
    ]
    assert notes(found) == [f"{key}=true: not used by fp32, which runs without it"]
    found = points("cache=default,quantized_int4", "cache.residual_length=32,64")
    assert (found[0].cache.name, found[0].cache.residual_length) == ("default", None)
    assert len(found) == 3


def test_a_case_that_makes_its_choice_keeps_what_it_sets(points):
    case = "cases=[['decoding=min_p','decoding.top_p=0.5']]"
    found = points("decoding=top_p,greedy", "decoding.top_p=0.8,0.9", case)
    assert labels(found) == ["top_p top_p=0.8", "top_p top_p=0.9", "greedy", "min_p"]
    assert found[-1].decoding.top_p == 0.5


def test_a_case_crosses_with_the_quantizations(points):
    found = points("quantization=fp32,bf16", "cases=[['decoding=top_p'],['decoding=beam']]")
    assert [point.label.removeprefix("fable_small/") for point in found] == [
        "fp32/top_p",
        "bf16/top_p",
        "fp32/beam",
        "bf16/beam",
    ]


def test_a_case_of_several_keys_is_in_every_quantization_and_prompt_set(points):
    case = "cases=[['decoding=greedy','generation.max_new_tokens=8']]"
    found = points("quantization=fp32,bnb_nf4", case)
    assert [(p.quantization.name, p.decoding.name, p.generation.max_new_tokens) for p in found] == [
        ("fp32", "greedy", 8),
        ("bnb_nf4", "greedy", 8),
    ]
    found = points("decoding=top_p,min_p", "quantization=fp32,bf16", "prompts=questions,storytelling", case)
    assert len(found) == 2 * 2 * 2 + 2 * 2
    assert [
        (p.quantization.name, p.prompts.name, p.decoding.name, p.generation.max_new_tokens) for p in found[8:]
    ] == [
        (quantization, prompts, "greedy", 8)
        for quantization, prompts in itertools.product(("fp32", "bf16"), ("questions", "storytelling"))
    ]
    assert {p.generation.max_new_tokens for p in found[:8]} == {64}


def test_a_case_that_names_a_group_is_not_crossed_with_it(points):
    found = points(
        "quantization=fp32,bf16", "decoding=top_p", "cases=[['quantization=bnb_nf4','decoding=greedy']]"
    )
    assert [point.label.removeprefix("fable_small/") for point in found] == [
        "fp32/top_p",
        "bf16/top_p",
        "bnb_nf4/greedy",
    ]


def test_an_experiment_s_body_and_a_choice_of_the_user(points, tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text(
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {decoding: 'greedy,warm'}}}\n"
        "decoding: {temperature: 1.5}\ngeneration: {samples: 2}\n"
    )
    (tmp_path / "more" / "decoding").mkdir(parents=True)
    (tmp_path / "more" / "decoding" / "warm.yaml").write_text(
        "defaults: [top_p, _self_]\ntemperature: 1.3\nmin_p: 0.1\n"
    )
    found = points("--config-dir", "more", "experiments=mine")
    assert [(p.decoding.temperature, p.decoding.top_p, p.generation.samples) for p in found] == [
        (None, None, 1),
        (1.5, 0.9, 2),
    ]
    # Its own value of a key is the one that it inherits.
    found = points("--config-dir", "more", "decoding=warm,min_p,top_k", "decoding.top_k=7")
    assert [(p.decoding.top_p, p.decoding.top_k) for p in found] == [(0.9, None), (None, None), (None, 7)]


@pytest.mark.parametrize(
    "words",
    [
        ["decoding=greedy,beam", "generation.samples=2"],
        ["decoding=greedy,beam", "decoding.temperature=0.7,0.9"],
        ["decoding=greedy", "decoding.top_p=0.9"],
        ["quantization=fp32,bf16", "quantization.bnb_4bit_use_double_quant=true"],
        ["cases=[['decoding=greedy','generation.samples=2'],['decoding=top_p']]"],
    ],
)
def test_what_no_strategy_uses_stays_a_mistake(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "-m", *words]) == 2
    assert capsys.readouterr().err
