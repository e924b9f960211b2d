"""Labels are unique, short where that is unambiguous, and show what the choices do not."""

from hypothesis import given
from hypothesis import strategies as st

from harness.config.labels import value_text, varied
from harness.config.points import make_points, point_config


def labels(*composed):
    return [point.label for point in make_points(composed)]


def test_only_choices_when_they_suffice(composed):
    greedy = composed(decoding="greedy")
    top_p = composed({"decoding.do_sample": True, "decoding.top_p": 0.9}, decoding="top_p")
    assert labels(greedy, top_p) == ["fable_small/fp32/greedy", "fable_small/fp32/top_p"]


def test_a_value_that_differs_within_a_choice(composed):
    def at(temperature):
        values = {"decoding.do_sample": True, "decoding.temperature": temperature}
        return composed(values, decoding="temperature")

    assert labels(composed(), at(0.5), at(0.9)) == [
        "fable_small/fp32/greedy",
        "fable_small/fp32/temperature temperature=0.5",
        "fable_small/fp32/temperature temperature=0.9",
    ]


def test_a_budget_that_differs_is_shown_for_every_point(composed):
    short = composed({"generation.max_new_tokens": 20})
    long = composed({"generation.max_new_tokens": 30, "decoding.num_beams": 5}, decoding="beam")
    assert labels(short, long) == [
        "fable_small/fp32/greedy max_new_tokens=20",
        "fable_small/fp32/beam max_new_tokens=30",
    ]


def test_prompts_are_named_when_they_vary(composed):
    other = composed({"prompts.items": ["Hello"]}, prompts="hello")
    assert labels(composed(), other) == ["fable_small/fp32/greedy/custom", "fable_small/fp32/greedy/hello"]


def test_a_name_in_two_sections_is_shown_in_full(composed):
    assert labels(composed({"record.top_k": 3}), composed({"record.top_k": 4})) == [
        "fable_small/fp32/greedy record.top_k=3",
        "fable_small/fp32/greedy record.top_k=4",
    ]
    drawn = [composed({"decoding.do_sample": True, "decoding.top_k": k}, decoding="top_k") for k in (3, 4)]
    assert labels(*drawn) == ["fable_small/fp32/top_k top_k=3", "fable_small/fp32/top_k top_k=4"]


def test_a_typed_model_is_named_by_its_id(composed):
    assert labels(composed({"model.id": "Qwen/Qwen2-0.5B"}, custom={"model"})) == ["Qwen2-0.5B/fp32/greedy"]
    twins = [composed({"model.id": f"{owner}/gpt"}, custom={"model"}) for owner in "ab"]
    assert labels(*twins) == ["gpt/fp32/greedy id=a/gpt", "gpt/fp32/greedy id=b/gpt"]


def test_custom_prompts_are_named_by_their_file(composed):
    for name, values in (
        ("mine.v2", {"prompts.file": "to/mine.v2.txt", "prompts.items": None}),
        ("custom", {}),
    ):
        (point,) = make_points([composed(values, custom={"prompts"}, prompts="questions")])
        assert point.prompts.name == name


def test_a_point_requested_twice_is_one_point(composed):
    once = {"decoding.do_sample": True, "decoding.temperature": 1}
    same = {"decoding.do_sample": True, "decoding.temperature": 1.0}
    assert len(make_points([composed(once), composed(same), composed(once)])) == 1


def test_a_choice_of_timing_that_varies_is_shown(composed):
    quick, off = composed(), composed({"timing.enabled": False}, timing="off")
    assert labels(quick, off) == [
        "fable_small/fp32/greedy timing=quick",
        "fable_small/fp32/greedy timing=off",
    ]


def test_long_values_remain_distinct(composed):
    texts = ["a" * 200 + end for end in "xy"]
    assert value_text(texts[0]) != value_text(texts[1])
    assert len(value_text(texts[0])) < 60


point_values = st.fixed_dictionaries(
    {
        "generation.seed": st.integers(0, 2),
        "generation.max_new_tokens": st.integers(1, 3),
        "decoding.repetition_penalty": st.sampled_from([None, 1.1, 1.2]),
        "record.top_k": st.integers(0, 1),
    }
)


@given(st.lists(st.tuples(point_values, st.sampled_from(["one", "two"])), min_size=1, max_size=12))
def test_labels_are_unique_and_keep_the_order(rows):
    from harness.config.points import Composed

    def build(values, decoding):
        config = {
            "model": {"id": "m"},
            "prompts": {"items": ["x"]},
            "decoding": {},
            "generation": {},
            "record": {},
        }
        for key, value in values.items():
            section, _, name = key.partition(".")
            config[section][name] = value
        return Composed(config, {"model": "m", "decoding": decoding})

    points = make_points([build(*row) for row in rows])
    assert len({point.label for point in points}) == len(points)
    assert len(points) == len({(tuple(sorted(values.items(), key=str)), name) for values, name in rows})
    # What varies identifies, with the choices, the point.
    identity = [(p.decoding.name, tuple(v.items())) for p, v in zip(points, varied(points), strict=True)]
    assert len(set(identity)) == len(points)


def test_what_was_requested_is_without_nulls_and_label(composed):
    (point,) = make_points([composed({"decoding.repetition_penalty": 1.2})])
    requested = point_config(point)
    assert requested["decoding"] == {"name": "greedy", "do_sample": False, "repetition_penalty": 1.2}
    assert "label" not in requested
