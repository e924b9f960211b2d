"""Penalties and biases against numbers worked out by hand, transformers' processors and a naive DRY."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from sampled import sampling
from transformers.generation import logits_process as stock

from harness.decoding.dry import Dry
from harness.decoding.penalties import text_processors
from harness.decoding.texts import Texts
from harness.decoding.vocabulary import Vocabulary

LOGITS = [2.0, 1.0, 0.5, 0.0, -1.0, -2.0]
HISTORY = [0, 4, 4, 2]
INF = float("inf")


class Letters(Vocabulary):
    """A vocabulary whose tokens are the letters a, b, c, ..."""

    def __init__(self) -> None:
        super().__init__(None)

    texts = tuple("abcdefghijklmnopqrstuvwxyz")  # type: ignore[assignment]


def warped(
    history: Sequence[int], prompt: int = 1, logits: Sequence[float] = LOGITS, **fields: Any
) -> list[float]:
    """Return the logits after all penalties; the first `prompt` tokens are the prompt, behind padding."""
    texts = Texts(torch.tensor([[0, 0, *history]]), [prompt], prompt + 2)
    found = torch.tensor([list(logits)])
    for process in text_processors(sampling(**fields), Letters()):
        found = process(texts, found)
    return found[0].tolist()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"presence_penalty": 0.25, "frequency_penalty": 0.5, "penalty_last_n": -1},
            [1.25, 1, -0.25, 0, -2.25, -2],
        ),
        (
            {
                "repetition_penalty": 1.2,
                "presence_penalty": 0.25,
                "frequency_penalty": 0.5,
                "penalty_last_n": -1,
            },
            [0.916667, 1, -0.333333, 0, -2.45, -2],
        ),
        ({"repetition_penalty": 1.2, "rep_pen_slope": 0.5}, [1.818182, 1, 0.416667, 0, -1.2, -2]),
        (
            {"repetition_penalty": 1.2, "penalty_sustain": 2, "penalty_decay": 4},
            [1.833333, 1, 0.416667, 0, -1.2, -2],
        ),
        # of the output alone: token 0 is the prompt's
        ({"presence_penalty": 0.25, "frequency_penalty": 0.5}, [2, 1, -0.25, 0, -2.25, -2]),
        ({"repetition_penalty": 2.0, "penalty_last_n": 2}, [2, 1, 0.25, 0, -2, -2]),
        ({"frequency_penalty": 1.0, "penalty_last_n": 3}, [2, 1, -0.5, 0, -3, -2]),
        ({"presence_penalty": -0.5}, [2, 1, 1, 0, -0.5, -2]),
        ({"encoder_repetition_penalty": 2.0}, [4, 1, 0.5, 0, -1, -2]),
        ({"logit_bias": {1: 3.0, 5: -100.0}}, [2, 4, 0.5, 0, -1, -102]),
        ({"sequence_bias": [[[3], 1.0], [[4, 2, 0], 5.0], [[2, 1], -1.0]]}, [7, 0, 0.5, 1, -1, -2]),
    ],
    ids=str,
)
def test_worked_examples(fields: dict[str, Any], expected: list[float]) -> None:
    assert warped(HISTORY, **fields) == pytest.approx(expected, abs=2e-6)


def test_llama_cpps_expected_values() -> None:
    uniform = [0.0] * 5
    found = torch.tensor(
        warped([0, 1, 2, 0, 0], 0, uniform, frequency_penalty=5.0, presence_penalty=5.0, penalty_last_n=-1)
    )
    assert found.softmax(-1).tolist() == pytest.approx([0, 0.000023, 0.000023, 0.499977, 0.499977], abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_transformers_own_are_its_own(seed: int) -> None:
    rng = random.Random(seed)
    ids = [rng.randrange(20) for _ in range(30)]
    logits = torch.randn(1, 20, generator=torch.Generator().manual_seed(seed)) * 3
    tensor = torch.tensor([ids])
    for fields, processor in (
        ({"repetition_penalty": 1.3}, stock.RepetitionPenaltyLogitsProcessor(1.3)),
        (
            {"encoder_repetition_penalty": 1.3},
            stock.EncoderRepetitionPenaltyLogitsProcessor(1.3, tensor[:, :12]),
        ),
        (
            {"sequence_bias": [[[3], 2.0], [[ids[-1], 7], -4.0], [[ids[-2], ids[-1], 8], 1.5]]},
            stock.SequenceBiasLogitsProcessor(
                [[[3], 2.0], [[ids[-1], 7], -4.0], [[ids[-2], ids[-1], 8], 1.5]]
            ),
        ),
    ):
        expected = processor(tensor, logits.clone())[0].tolist()
        assert warped(ids, 12, logits[0].tolist(), **fields) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("ids", "fields", "penalties"),
    [
        ([0, 1, 2, 3, 0, 1, 2], {}, {3: 1.4}),
        ([0, 1, 2, 3, 0, 1, 2], {"dry_sequence_breakers": ["a"]}, {3: 0.8}),
        ([0, 1, 2, 3, 0, 1, 2], {"dry_sequence_breakers": ["b"]}, {}),
        ([0, 1, 2, 3, 0, 1, 2], {"dry_sequence_breakers": ["d"]}, {}),
        ([0, 1, 2, 2, 1, 2, 5, 0, 1, 2], {}, {2: 1.4, 5: 0.8}),  # webui
        ([0, 1, 2, 2, 1, 2, 5, 0, 1, 2], {"dry_allowed_length": 1}, {2: 2.45, 1: 0.8, 5: 1.4}),  # webui
        ([0, 1, 2, 3, 0, 1, 2], {"dry_penalty_last_n": 6}, {3: 0.8}),
    ],
    ids=str,
)
def test_dry_follows_its_worked_examples(
    ids: list[int], fields: dict[str, Any], penalties: dict[int, float]
) -> None:
    fields = {"dry_sequence_breakers": [], **fields}
    found = warped(ids, 2, [0.0] * 6, dry_multiplier=0.8, **fields)
    expected = [-penalties.get(token, 0.0) for token in range(6)]
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("ids", "fields", "size", "expected"),
    [
        (
            [0, 1, 2, 0, 1],
            {"dry_multiplier": 1.0, "dry_base": 1.1},
            4,
            [0.296923, 0.296923, 0.109232, 0.296923],
        ),
        (
            [0, 1, 2, 0, 1],
            {"dry_multiplier": 2.0, "dry_base": 1.1},
            5,
            [0.241818, 0.241818, 0.032727, 0.241818, 0.241818],
        ),
        (
            [0, 1, 3, 4, 0, 1],
            {"dry_multiplier": 2.0, "dry_base": 1.1, "dry_sequence_breakers": ["d"]},
            5,
            [0.2] * 5,
        ),
    ],
    ids=str,
)
def test_dry_gives_llama_cpps_values(
    ids: list[int], fields: dict[str, Any], size: int, expected: list[float]
) -> None:
    fields = {"dry_sequence_breakers": [], **fields}
    found = torch.tensor(warped(ids, 1, [0.0] * size, **fields))
    assert found.softmax(-1).tolist() == pytest.approx(expected, abs=2e-6)


def naive_dry(
    ids: Sequence[int], size: int, multiplier: float, base: float, allowed: int, last: int, breakers: set[int]
) -> list[float]:
    """By its definition: the longest suffix that each token has followed before."""
    window = list(ids if last < 0 else ids[len(ids) - min(last, len(ids)) :])
    n = len(window)
    limit = next((k for k in range(n) if window[n - 1 - k] in breakers), n)
    found = [0.0] * size
    for token in set(range(size)) - breakers:
        longest = 0
        for j in range(n - 1):
            if window[j + 1] == token:
                k = 0
                while k < min(limit, j + 1) and window[j - k] == window[n - 1 - k]:
                    k += 1
                longest = max(longest, k)
        if longest >= allowed:
            found[token] = -multiplier * base ** (longest - allowed)
    return found


@pytest.mark.parametrize("seed", range(60))
def test_dry_is_the_naive_one(seed: int) -> None:
    rng = random.Random(seed)
    size, length = rng.choice([3, 6]), rng.randrange(1, 40)
    ids = [rng.randrange(size) for _ in range(length)]
    if rng.random() < 0.5:
        ids += ids[-10:] * 2
    allowed, last = rng.choice([1, 2, 4]), rng.choice([-1, 7, 100])
    breakers = set(rng.sample(range(size), rng.choice([0, 1])))
    logits = torch.zeros(1, size)
    texts = Texts(torch.tensor([[0, 0, *ids]]), [len(ids)], len(ids) + 2)
    found = Dry(0.8, 1.3, allowed, last, sorted(breakers))(texts, logits)
    assert found[0].tolist() == pytest.approx(
        naive_dry(ids, size, 0.8, 1.3, allowed, last, breakers), rel=1e-5
    )


def test_a_text_without_repeats_has_no_penalty_and_a_loop_a_finite_one() -> None:
    assert warped(range(6), dry_multiplier=0.8, dry_sequence_breakers=[]) == LOGITS
    loop = warped([1] * 3000, dry_multiplier=0.8, dry_base=1.75, dry_sequence_breakers=[])
    assert loop[1] < -1e30
    assert loop[1] > -INF


@pytest.mark.parametrize("seed", range(10))
def test_an_unlimited_dry_bans_what_no_repeat_ngram_bans(seed: int) -> None:
    rng = random.Random(seed)
    ids = [rng.randrange(6) for _ in range(25)]
    for size in (2, 3, 4):
        banned = stock.NoRepeatNGramLogitsProcessor(size)(torch.tensor([ids]), torch.zeros(1, 6))[0]
        found = warped(
            ids, 3, [0.0] * 6, dry_multiplier=1e9, dry_base=1.0, dry_allowed_length=size - 1,
            dry_sequence_breakers=[],
        )  # fmt: skip
        assert [value < -1e8 for value in found] == (banned == -INF).tolist()


def test_rows_with_padding_are_as_alone() -> None:
    fields = {
        "repetition_penalty": 1.3,
        "presence_penalty": 0.5,
        "dry_multiplier": 0.8,
        "dry_sequence_breakers": [],
        "encoder_repetition_penalty": 1.1,
        "sequence_bias": [[[1, 2, 3], 2.0]],
    }
    rng = random.Random(0)
    prompts = [[rng.randrange(6) for _ in range(length)] for length in (2, 7, 4)]
    outputs = [[rng.randrange(6) for _ in range(9)] for _ in prompts]
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    padded = [
        [5] * (7 - len(prompt)) + prompt + output for prompt, output in zip(prompts, outputs, strict=True)
    ]
    together = logits
    texts = Texts(torch.tensor(padded), [len(prompt) for prompt in prompts], 7)
    for process in text_processors(sampling(**fields), Letters()):
        together = process(texts, together)
    for row, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
        alone = logits[row : row + 1]
        own = Texts(torch.tensor([prompt + output]), [len(prompt)], len(prompt))
        for process in text_processors(sampling(**fields), Letters()):
            alone = process(own, alone)
        torch.testing.assert_close(together[row : row + 1], alone)
