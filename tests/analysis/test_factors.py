"""Effects of the choices and keys of a sweep."""

from __future__ import annotations

import pytest
from valued_points import sweep_point

from harness.analysis.comparison import Effect
from harness.analysis.factors import effects_of, factors_of
from harness.analysis.point_results import PointResult
from harness.store.sweeps import SweepPoint

KEY = "text/distinct_2"


def points(*found: tuple[SweepPoint, float]) -> list[PointResult]:
    return [PointResult(point, None, {KEY: value}) for point, value in found]


def by_factor(found: list[PointResult]) -> dict[str, Effect]:
    return {effect.factor: effect for effect in effects_of(found, [KEY])}


def test_model_and_decoding_at_once() -> None:
    found = points(
        (sweep_point("greedy", "a"), 2),
        (sweep_point("top_p", "a"), 4),
        (sweep_point("greedy", "b"), 6),
        (sweep_point("top_p", "b"), 8),
    )
    effects = effects_of(found, [KEY])
    assert [(e.factor, e.share, e.spread) for e in effects] == [
        ("model", pytest.approx(0.8), 4),
        ("decoding", pytest.approx(0.2), 2),
    ]
    assert effects[0].levels == {"a": 3, "b": 7}


def test_a_key_of_a_choice_is_nested_in_it() -> None:
    """greedy 0; temperature 0.5: 4, 1.0: 6. Mean 10/3, SS 18.67; between decodings 16.67, within 2."""
    found = points(
        (sweep_point("greedy"), 0),
        (sweep_point("temperature", decoding__temperature=0.5), 4),
        (sweep_point("temperature", decoding__temperature=1.0), 6),
    )
    effects = by_factor(found)
    assert effects["decoding"].share == pytest.approx((50 / 3) / (56 / 3))
    assert effects["decoding.temperature"].share == pytest.approx(2 / (56 / 3))
    assert effects["decoding.temperature"].levels == {"–": 0, "0.5": 4, "1.0": 6}


def test_factors_that_group_alike_count_once_and_those_that_do_not_vary_never() -> None:
    found = points(
        (sweep_point("greedy", "a", generation__seed=1), 1),
        (sweep_point("greedy", "b", generation__seed=2), 2),
    )
    assert list(factors_of(found)) == ["model"]
    assert factors_of(found)["model"].confounded == ("generation.seed",)
    assert {effect.confounded for effect in effects_of(found, [KEY])} == {("generation.seed",)}
    assert effects_of(found[:1], [KEY]) == ()
    assert by_factor(points((sweep_point("a"), 1.0), (sweep_point("b"), 1.0)))["decoding"].share == 0


def test_points_without_the_metric_do_not_count() -> None:
    found = points((sweep_point("a"), 1.0), (sweep_point("b"), 3.0))
    found.append(PointResult(sweep_point("c"), None, {}))
    assert by_factor(found)["decoding"].levels == {"a": 1.0, "b": 3.0}
