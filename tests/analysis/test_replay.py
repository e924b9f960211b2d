"""Replay's claims compared with real decoding: stock processors, the backend's recorder and noise."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_steps import Real, decode, stored

from harness.analysis.replay.choices import Outcome, Reason
from harness.analysis.replay.kept_set import KEPT, REMOVED
from harness.analysis.replay.replayer import ReplayedSteps, replay_steps
from harness.analysis.replay.stored_steps import StoredSteps, read_steps
from harness.analysis.replay.warp import Warp, warp_of
from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.errors import ConfigError
from harness.store.stored_point import StoredPoint
from harness.store.tables import TOKENS

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
    n_sigma=some(between(0.2, 4.0), 0.0),
    top_a=some(between(0.01, 1.0), 0.0),
    p_less=some(st.sampled_from([1, 2]), 0),
)
WARPS = st.one_of(DRAWING, DRAWING, DRAWING, st.just(Warp(draws=False)))


@st.composite
def logits(draw: st.DrawFn) -> torch.Tensor:
    """Rows from flat to peaked; on a grid, as bfloat16 rounds them, many tie."""
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


def check_kept(replayed: ReplayedSteps, real: Real) -> None:
    """Kept and removed tokens really are, each by id and the rest as a whole; counts are within bounds."""
    steps, kept = replayed.steps, replayed.kept
    left = real.warped.isfinite().numpy()
    rows = np.arange(len(steps))[:, None]
    really = left[rows, np.maximum(steps.ids, 0)] & (steps.ids >= 0)
    assert not (really & (kept.tokens == REMOVED)).any()
    assert really[kept.tokens == KEPT].all()
    named = np.zeros(left.shape, dtype=bool)
    for row, ids in enumerate(steps.ids):
        named[row, ids[ids >= 0]] = True
    rest = left & ~named
    assert not rest[kept.rest == REMOVED].any()
    whole = real.logits.isfinite().numpy() & ~named
    assert (rest == whole)[kept.rest == KEPT].all()
    low, high = replayed.kept_count()
    assert (left.sum(1) <= high).all()
    assert (left.sum(1)[kept.rest != KEPT] >= low[kept.rest != KEPT]).all()


def check_likelihood(replayed: ReplayedSteps, real: Real, temperature: float) -> None:
    """The stored token's warped logprob, recomputed in float64, is within its bounds."""
    steps = replayed.steps
    exact = real.warped.double().log_softmax(-1).numpy()[np.arange(len(steps)), steps.chosen]
    low, high = replayed.warped_logprob(steps.chosen_column)
    slack = 2e-4 / temperature
    with np.errstate(invalid="ignore"):
        assert ((exact <= high + slack) | (exact == high)).all()
        assert ((exact >= low - slack) | (exact == low)).all()


def check_choices(replayed: ReplayedSteps, real: Real) -> None:
    choices, chosen = replayed.choices, replayed.steps.chosen
    same = real.chosen == chosen
    assert same[choices.outcome == Outcome.SAME].all()
    assert not same[choices.outcome == Outcome.CHANGED].any()
    known = choices.token >= 0
    assert (real.chosen == choices.token)[known].all()
    assert ((choices.reason != Reason.NONE) == (choices.outcome == Outcome.UNDECIDED)).all()


@settings(max_examples=300, deadline=None)
@given(
    scores=logits(),
    old=WARPS,
    new=WARPS,
    depth=st.sampled_from([1, 2, 5, 20]),
    seed=st.integers(0, 1),
    vocabulary_known=st.booleans(),
)
def test_claims_hold(
    scores: torch.Tensor, old: Warp, new: Warp, depth: int, seed: int, vocabulary_known: bool
) -> None:
    depth = min(depth, scores.shape[1])
    recorded, real = decode(old, scores, depth, seed), decode(new, scores, depth, seed)
    for known in (old, None):
        replayed = replay_steps(stored(recorded, None if vocabulary_known else math.inf), new, known, seed)
        check_kept(replayed, real)
        check_likelihood(replayed, real, new.temperature)
        check_choices(replayed, real)


def steps_of_p(*rows: list[float], chosen: int = 0, rest: float = 0.0, vocabulary: int = 1000) -> StoredSteps:
    """Steps whose recorded alternatives, tokens 0, 1, ..., have these probabilities."""
    p = np.array(rows)
    count, depth = p.shape
    assert np.allclose(p.sum(1) + rest, 1.0)
    return StoredSteps(
        prompt_ids=["p"],
        samples=[0],
        offsets=np.array([0, count]),
        chosen=np.full(count, chosen),
        chosen_logprob=np.log(p[:, chosen]),
        rank=np.full(count, chosen + 1),
        entropy=np.zeros(count),
        squares=np.full(count, math.nan),
        deviation=np.full(count, 1.0),
        top_ids=np.tile(np.arange(depth), (count, 1)),
        top_logprobs=np.log(p),
        top_kept=np.ones((count, depth), dtype=bool),
        vocabulary=vocabulary,
    )


PLAIN = Warp(draws=True)
SEED = 0


@pytest.mark.parametrize(
    ("warp", "kept", "rest"),
    [
        (Warp(True, top_k=2), "KK..", REMOVED),
        (Warp(True, top_k=4), "KKK?", 1),  # an unrecorded token may tie with the fourth
        (Warp(True, top_k=900), "KKKK", 1),
        (Warp(True, top_k=2000), "KKKK", KEPT),
        (Warp(True, top_p=0.4), "K...", REMOVED),
        (Warp(True, top_p=0.7), "KK..", REMOVED),
        (Warp(True, top_p=0.84), "KKK.", REMOVED),
        (Warp(True, top_p=0.88), "KKK?", 1),  # or come before the fourth
        (Warp(True, top_p=0.99), "KKKK", 1),
        (Warp(True, min_p=0.11), "KKK.", REMOVED),
        (Warp(True, min_p=0.02), "KKKK", 1),
        (Warp(True, epsilon=0.06), "KKK.", REMOVED),
        (Warp(True, epsilon=0.01), "KKKK", 1),
        (Warp(True, temperature=0.5, top_p=0.7), "K...", REMOVED),
        (Warp(True, temperature=0.5, min_p=0.11), "KK..", REMOVED),
        (Warp(True, n_sigma=1.0), "KK..", REMOVED),  # a deviation of 1: from e^-1 of the likeliest
        (Warp(True, n_sigma=2.0), "KKK.", REMOVED),
        (Warp(True, n_sigma=9.0), "KKKK", 1),
        (Warp(True, top_a=0.5), "KK..", REMOVED),
        (Warp(True, p_less=1), "K...", REMOVED),
        (Warp(False), "KKKK", KEPT),
    ],
)
def test_kept_by_hand(warp: Warp, kept: str, rest: int) -> None:
    """p = .5 .25 .1 .05 and .1 for what was not recorded, of which no token has more than .05.

    At temperature 0.5 the squares count: .25 .0625 .01 .0025 and at most .1 * .05 = .005 for the rest, so the
    first has between .758 and .77 of the mass.
    """
    replayed = replay_steps(steps_of_p([0.5, 0.25, 0.1, 0.05], rest=0.1), warp, PLAIN, SEED)
    assert "".join(".?K"[state] for state in replayed.kept.tokens[0, :4]) == kept
    assert replayed.kept.rest[0] == rest


def test_likelihood_by_hand() -> None:
    steps = steps_of_p([0.5, 0.25, 0.1, 0.05], chosen=1, rest=0.1)

    def bounds(warp: Warp) -> tuple[float, float]:
        low, high = replay_steps(steps, warp, PLAIN, SEED).warped_logprob(steps.chosen_column)
        return math.exp(low[0]), math.exp(high[0])

    assert bounds(PLAIN) == pytest.approx((0.25, 0.25))
    assert bounds(Warp(True, top_k=2)) == pytest.approx((1 / 3, 1 / 3))
    assert bounds(Warp(True, top_k=1)) == (0.0, 0.0)
    # .0625 over .325 and a rest of at most .005 and at least .1 ** 2 / 996
    low, high = bounds(Warp(True, temperature=0.5))
    assert low == pytest.approx(0.0625 / 0.33, rel=1e-3)
    assert high == pytest.approx(0.0625 / (0.325 + 0.01 / 996), rel=1e-3)
    # Roots: .7071 .5 .3162 .2236; the rest is at least .1 / sqrt(.05), at most sqrt(.1 * 996)
    low, high = bounds(Warp(True, temperature=2.0))
    known = sum(math.sqrt(p) for p in (0.5, 0.25, 0.1, 0.05))
    assert high == pytest.approx(0.5 / (known + 0.1 / math.sqrt(0.05)), rel=1e-3)
    assert low == pytest.approx(0.5 / (known + math.sqrt(0.1 * 996)), rel=1e-3)


def test_tokens_that_lost_lose_again() -> None:
    """The unrecorded tokens are unknown, but they lost under a less strict strategy with the same noise."""
    steps = steps_of_p([0.3, 0.1], chosen=1, rest=0.6)
    lax, strict = Warp(True, temperature=1.5, min_p=0.01), Warp(True, temperature=1.5, min_p=0.05)
    assert replay_steps(steps, strict, lax, SEED).choices.outcome[0] == Outcome.SAME
    assert replay_steps(steps, lax, strict, SEED).choices.outcome[0] == Outcome.UNDECIDED
    assert replay_steps(steps, strict, None, SEED).choices.outcome[0] != Outcome.SAME


def test_a_sample_is_replayed_to_its_first_change() -> None:
    peaked, split, tied = [0.97, 0.02], [0.6, 0.3], [0.45, 0.45]
    steps = steps_of_p(peaked, peaked, chosen=0, rest=0.01)
    (sample,) = replay_steps(steps, Warp(False), PLAIN, SEED).samples()
    assert (sample.steps, sample.same, sample.changes_at, sample.undecided_at) == (2, 2, None, None)
    steps = steps_of_p(split, tied, split, chosen=1, rest=0.1)
    (sample,) = replay_steps(steps, Warp(False), PLAIN, SEED).samples()
    assert (sample.same, sample.changes_at, sample.token, sample.other) == (0, 0, 1, 0)
    assert sample.logprob == pytest.approx((math.log(0.3), math.log(0.6)))
    steps = steps_of_p(tied, split, chosen=1, rest=0.1)
    (sample,) = replay_steps(steps, Warp(False), PLAIN, SEED).samples()
    assert (sample.same, sample.undecided_at, sample.changes_at) == (0, 0, 1)
    assert sample.reason == Reason.TIE
    (sample,) = replay_steps(steps, Warp(True, top_k=1), PLAIN, SEED).samples()
    assert sample.mean_logprob == (-math.inf, -math.inf), "the second step's token is removed"


def test_several_samples_are_kept_apart() -> None:
    steps = steps_of_p([0.6, 0.3], [0.6, 0.3], [0.6, 0.3], chosen=0, rest=0.1)
    steps = replace(steps, prompt_ids=["p", "p"], samples=[0, 1], offsets=np.array([0, 2, 3]))
    found = list(replay_steps(steps, Warp(False), PLAIN, SEED).samples())
    assert [(sample.sample, sample.steps, sample.same) for sample in found] == [(0, 2, 2), (1, 1, 1)]


def test_strategies_that_replay_does_not_support() -> None:
    def effective(**keys: object) -> dict:
        return effective_decoding(Decoding(name="x", **keys))

    assert warp_of(effective(do_sample=False)) == Warp(False)
    assert warp_of(effective(do_sample=True, temperature=2, min_p=0.0, top_k=7)) == Warp(True, 2.0, 7)
    for keys in ({"num_beams": 2}, {"typical_p": 0.5, "do_sample": True}, {"repetition_penalty": 1.1},
                 {"min_new_tokens": 3}, {"top_h": 0.5, "do_sample": True}):  # fmt: skip
        with pytest.raises(ConfigError, match=f"decoding.{next(iter(keys))}=.*replay does not support it"):
            warp_of(effective(**keys))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        (
            {name: [[], [], []] for name in ("top_ids", "top_logprobs", "top_warped_logprobs")},
            "top_k=0: no alternatives were recorded",
        ),
        ({"top_ids": [[4, 5], [4], [4, 5]]}, "the number of recorded alternatives varies"),
        ({"rank": [None, None, None], "kept": [None, None, None]}, "p1: rank, kept: unknown to the backend"),
    ],
)
def test_steps_are_read_as_stored(change: dict, message: str | None, tmp_path: Path) -> None:
    columns = {
        "prompt_id": ["a", "a", "b"], "sample": [0, 0, 1], "position": [0, 1, 0], "token_id": [4, 7, 5],
        "logprob": [-0.5, -3.0, -1.0], "rank": [1, 9, 2], "entropy": [0.5] * 3, "kept": [40, 3, 3],
        "top_ids": [[4, 5]] * 3, "top_logprobs": [[-0.5, -1.0]] * 3,
        "top_warped_logprobs": [[-0.5, -math.inf]] * 3,
    }  # fmt: skip
    (tmp_path / "p1").mkdir()
    schema = pa.schema([TOKENS.field(name) for name in columns])
    pq.write_table(pa.table(columns | change, schema), tmp_path / "p1" / "tokens.parquet")
    point = StoredPoint(tmp_path / "p1")
    if message is not None:
        with pytest.raises(ConfigError, match=message):
            list(read_steps(point, 10.0))
        return
    blocks = list(read_steps(point, 10.0))
    samples = [name for steps in blocks for name in zip(steps.prompt_ids, steps.samples, strict=True)]
    assert samples == [("a", 0), ("b", 1)]
    (steps, _) = blocks
    assert steps.position.tolist() == [0, 1]
    assert steps.chosen_column.tolist() == [0, 2]
    assert steps.ids.tolist() == [[4, 5, -1], [4, 5, 7]]
    assert steps.was_kept.tolist() == [[True, False, False], [True, False, True]]
    assert steps.vocabulary == 40, "more tokens were kept than the model is said to know"


def test_most_steps_of_a_narrower_strategy_are_decided() -> None:
    """Correct is not enough: on peaked distributions with 20 alternatives, nearly all must be decided."""
    generator = torch.Generator().manual_seed(0)
    ranks = torch.rand(600, 1600, generator=generator).argsort(-1) + 1
    scores = torch.randn(600, 1600, generator=generator) - 1.6 * ranks.float().log()
    recorded = decode(PLAIN, scores, 20)
    for warp in (Warp(True, top_p=0.8), Warp(True, top_k=5), Warp(True, 0.7, 10), Warp(True, min_p=0.05)):
        undecided = replay_steps(stored(recorded), warp, PLAIN, SEED).choices.outcome == Outcome.UNDECIDED
        assert undecided.mean() < 0.02, warp


@pytest.mark.parametrize("old", [PLAIN, Warp(True, 0.7), Warp(True, 1.4)])
@pytest.mark.parametrize("new", [PLAIN, Warp(True, 0.9), Warp(True, 1.1), Warp(True, top_k=30)])
def test_unrecorded_tokens_that_may_win(old: Warp, new: Warp) -> None:
    """With three alternatives of flat distributions the rest often wins: only its noise can decide."""
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(3000, 120, generator=generator) * 1.5
    recorded, real = decode(old, scores, 3), decode(new, scores, 3)
    replayed = replay_steps(stored(recorded), new, old, SEED)
    check_choices(replayed, real)
    assert (replayed.choices.outcome == Outcome.UNDECIDED).any() or new == old


def test_ties_that_top_p_splits() -> None:
    """A hundred tokens tie: which of them top_p keeps is undecidable, and so is whether they lost before."""
    scores = torch.zeros(2000, 3000) - 30.0
    scores[:, 100:200] = 0.0
    scores[:, 50] = 2.0
    recorded, real = decode(Warp(True, top_p=0.9), scores, 3), decode(Warp(True, top_p=0.5), scores, 3)
    replayed = replay_steps(stored(recorded), Warp(True, top_p=0.5), Warp(True, top_p=0.9), SEED)
    check_kept(replayed, real)
    check_choices(replayed, real)
    assert (replayed.choices.outcome == Outcome.UNDECIDED).any()
