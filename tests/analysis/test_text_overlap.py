"""How early texts part and what they share, against the definition and sacrebleu."""

from __future__ import annotations

import math
import random
from itertools import combinations
from pathlib import Path

import pytest
from fake_points import WORDS, make_sweep
from sacrebleu.metrics import BLEU
from valued_points import rows, store

from harness.analysis.text_overlap import disagreement, mean_self_bleu, text_overlap


def test_disagreement_by_hand() -> None:
    assert disagreement(["same", "same", "same"]) == 0
    assert disagreement(["left", "right"]) == 1
    assert disagreement(["abcd", "abxy"]) == 0.5
    assert disagreement(["ab", "abcd"]) == 0.5  # the rest of the longer one
    assert disagreement(["abcd", "abcd", "abxy", ""]) == pytest.approx((0 + 0.5 * 2 + 3) / 6)
    assert disagreement(["", ""]) == disagreement(["alone"]) == 0


def begin_alike(text: str, other: str) -> int:
    return sum(text[: i + 1] == other[: i + 1] for i in range(min(len(text), len(other))))


def test_disagreement_is_the_mean_over_all_pairs() -> None:
    rng = random.Random(0)
    for _ in range(200):
        texts = ["".join(rng.choices("ab", k=rng.randint(0, 6))) for _ in range(rng.randint(2, 7))]
        pairs = [
            1 - begin_alike(*pair) / longest if (longest := max(map(len, pair))) else 0
            for pair in combinations(texts, 2)
        ]
        assert disagreement(texts) == pytest.approx(sum(pairs) / len(pairs))


def test_self_bleu_is_sacrebleus() -> None:
    rng = random.Random(0)
    bleu = BLEU(effective_order=True)
    for size in (1, 2, 5, 40) * 10:
        texts = [" ".join(rng.choices(WORDS[:12], k=rng.randint(1, size))) for _ in range(rng.randint(2, 6))]
        texts += texts[:1] * rng.randint(0, 1)
        scores = [bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score for i, text in enumerate(texts)]
        assert mean_self_bleu(texts) == pytest.approx(sum(scores) / len(scores))


def test_texts_without_words_are_no_texts_to_score() -> None:
    assert math.isnan(mean_self_bleu(["a word", "", " \n"]))
    assert mean_self_bleu(["a word", "a word", ""]) == 100


def test_points_are_read_side_by_side_whatever_their_order(tmp_path: Path) -> None:
    texts = {"p0": "night fell", "p1": "day broke", "p2": "it was"}

    def point(name: str, **changed: str) -> list[dict[str, object]]:
        made = [{"prompt_id": p, "sample": 0, "output": changed.get(p, text)} for p, text in texts.items()]
        return made if name != "c" else made[::-1]

    points = [
        store(tmp_path, "a", point("a"), {}),
        store(tmp_path, "b", point("b", p1="day began"), {}),
        store(tmp_path, "c", point("c", p2="zero"), {}),
        store(tmp_path, "d", [{"prompt_id": "only", "sample": 0, "output": "here"}, *point("d")[:1]], {}),
    ]
    told = text_overlap(points)
    assert list(told.disagreement) == ["p2", "p1", "p0"]  # the most first; `only` has nothing to differ from
    assert told.disagreement["p0"] == 0
    assert told.disagreement["p1"] == pytest.approx((0 + 4 / 9 + 4 / 9) / 3)
    assert told.self_bleu["p0"] == 100
    assert set(told.self_bleu) == {"p0", "p1", "p2"}
    assert text_overlap(points[:1]).disagreement == {}
    assert text_overlap([]).disagreement == {}


def test_samples_of_a_prompt_are_paired_and_averaged(tmp_path: Path) -> None:
    def point(*outputs: str) -> list[dict[str, object]]:
        return [{"prompt_id": "p", "sample": i, "output": output} for i, output in enumerate(outputs)]

    points = [store(tmp_path, "a", point("aa", "bb"), {}), store(tmp_path, "b", point("aa", "cc"), {})]
    assert text_overlap(points).disagreement == {"p": 0.5}


def test_scores_end_where_there_are_too_many_texts(tmp_path: Path) -> None:
    outputs = [[f"{name} word {i}" for i in range(5)] for name in "ab"]
    points = [store(tmp_path, str(i), rows(output=made), {}) for i, made in enumerate(outputs)]
    told = text_overlap(points, most_scored=6)
    assert len(told.disagreement) == 5
    assert (len(told.self_bleu), told.unscored) == (3, 2)


def test_many_points_of_a_sweep(outputs: Path) -> None:
    sweep = make_sweep(outputs, tokens=30, samples=2)
    from harness.analysis.point_results import point_results

    told = text_overlap([p.stored for p in point_results(sweep) if p.stored])
    assert len(told.disagreement) == len(told.self_bleu) == 6
    assert all(0.5 < share <= 1 for share in told.disagreement.values())
