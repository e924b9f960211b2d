"""What replay claims is what really happens, with stock processors and the engine's recorder and luck."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_steps import Real, decode, stored

from harness.results.replay import (
    Outcome,
    Reason,
    Replayed,
    Replayer,
    StoredSteps,
    Warp,
    taken_columns,
)
from harness.results.replay.choice import Seeds
from harness.results.replay.kept import CUT, KEPT

ROWS = 24


def between(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


def some(values: st.SearchStrategy[float], none: float) -> st.SearchStrategy[float]:
    return st.one_of(st.just(none), st.just(none), values)


DRAWING = st.builds(
    Warp,
    draws=st.just(True),
    temperature=st.one_of(st.just(1.0), st.sampled_from([0.3, 0.5, 0.8, 1.25, 2.0]), between(0.1, 3.0)),
    top_k=some(st.integers(1, 40), 0),  # type: ignore[arg-type]
    top_p=some(st.one_of(st.sampled_from([0.5, 0.75, 0.8, 0.9, 0.95]), between(0.01, 0.999)), 1.0),
    min_p=some(st.one_of(st.just(1.0), between(0.001, 0.9)), 0.0),
    epsilon=some(between(1e-4, 0.4), 0.0),
    eta=some(between(1e-4, 0.4), 0.0),
)
WARPS = st.one_of(DRAWING, DRAWING, DRAWING, st.just(Warp(draws=False)))


@st.composite
def logits(draw: st.DrawFn) -> torch.Tensor:
    """Rows from flat to sure; on a grid, as bfloat16 leaves them, many tie."""
    vocabulary = draw(st.sampled_from([2, 7, 30, 150, 400]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    spread = draw(st.sampled_from([0.01, 1.0, 2.0, 4.0, 8.0]))
    shift = draw(st.sampled_from([0.0, 10.0, -90.0]))
    found = torch.randn(ROWS, vocabulary, generator=generator) * spread + shift
    kind = draw(st.sampled_from(["smooth", "smooth", "bfloat16", "grid"]))
    if kind == "bfloat16":
        found = found.bfloat16().float()
    if kind == "grid":
        found = found.round()
    if draw(st.booleans()):
        found[::2, ::5] = -math.inf
        found[:, 1] = shift
    return found


def check_kept(replayed: Replayed, real: Real) -> None:
    """Kept and cut tokens really are, each by name and the rest as a whole; counts are within bounds."""
    steps, kept = replayed.steps, replayed.kept
    left = real.warped.isfinite().numpy()
    rows = np.arange(len(steps))[:, None]
    really = left[rows, np.maximum(steps.ids, 0)] & (steps.ids >= 0)
    assert not (really & (kept.tokens == CUT)).any()
    assert really[kept.tokens == KEPT].all()
    named = np.zeros(left.shape, dtype=bool)
    for row, ids in enumerate(steps.ids):
        named[row, ids[ids >= 0]] = True
    rest = left & ~named
    assert not rest[kept.rest == CUT].any()
    whole = real.logits.isfinite().numpy() & ~named
    assert (rest == whole)[kept.rest == KEPT].all()
    low, high = replayed.count()
    assert (left.sum(1) <= high).all()
    assert (left.sum(1)[kept.rest != KEPT] >= low[kept.rest != KEPT]).all()


def check_likelihood(replayed: Replayed, real: Real) -> None:
    """The stored token's warped logprob is within its bounds; a float64 recomputation tells it."""
    steps = replayed.steps
    exact = real.warped.double().log_softmax(-1).numpy()[np.arange(len(steps)), steps.chosen]
    low, high = replayed.warped_logprob(steps.place)
    slack = 2e-4 / replayed.warp.temperature
    with np.errstate(invalid="ignore"):
        assert ((exact <= high + slack) | (exact == high)).all()
        assert ((exact >= low - slack) | (exact == low)).all()


def check_choices(replayed: Replayed, real: Real) -> None:
    choices, chosen = replayed.choices, replayed.steps.chosen
    same = real.chosen == chosen
    assert same[choices.outcome == Outcome.SAME].all()
    assert not same[choices.outcome == Outcome.CHANGED].any()
    told = choices.token >= 0
    assert (real.chosen == choices.token)[told].all()
    assert ((choices.reason != Reason.NONE) == (choices.outcome == Outcome.UNDECIDED)).all()


def check_taken(replayer: Replayer, replayed: Replayed, old: Real, real: Real) -> None:
    """What would be written is what is really recorded."""
    columns = taken_columns(replayer, replayed.steps)
    if columns is None:
        return
    assert (old.steps.token_id == real.steps.token_id).all()
    for name in vars(real.steps):
        mine, theirs = columns.get(name, getattr(old.steps, name)), getattr(real.steps, name)
        assert mine.dtype == theirs.dtype, name
        assert (np.isfinite(mine) == np.isfinite(theirs)).all(), name
        finite = np.isfinite(theirs)
        slack = 5e-5 / replayer.new.temperature
        np.testing.assert_allclose(mine[finite], theirs[finite], rtol=1e-5, atol=slack, err_msg=name)


def replay(replayer: Replayer, steps: StoredSteps) -> Replayed:
    return replayer(steps)


@settings(max_examples=500, deadline=None)
@given(
    scores=logits(),
    old=WARPS,
    new=WARPS,
    depth=st.sampled_from([1, 2, 5, 20]),
    seeds=st.sampled_from([(0, 0), (0, 0), (0, 1)]),
    blind=st.booleans(),
)
def test_claims_hold(
    scores: torch.Tensor, old: Warp, new: Warp, depth: int, seeds: tuple[int, int], blind: bool
) -> None:
    depth = min(depth, scores.shape[1])
    made, real = decode(old, scores, depth, seeds[0]), decode(new, scores, depth, seeds[1])
    for known in (old, None):
        replayer = Replayer(new, known, Seeds(new=seeds[1], old=seeds[0]))
        replayed = replay(replayer, stored(made, math.inf if blind else None))
        check_kept(replayed, real)
        check_likelihood(replayed, real)
        check_choices(replayed, real)
        check_taken(replayer, replayed, made, real)
