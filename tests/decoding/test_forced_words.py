"""What a text lacks of the words that it is to hold, by hand and by a search of the text."""

from __future__ import annotations

from random import Random

from harness.decoding.forced_words import ForcedWords, Progress, in_turn_by_bank, tokens_needed, words_of


def progress(words: ForcedWords, *tokens: int) -> Progress:
    found = words.start
    for count in range(1, len(tokens) + 1):
        found = words.after(found, tokens[:count])
    return found


def test_both_forms_of_the_field() -> None:
    assert words_of([[7, 8], [[1], [2, 3]]]) == (((7, 8),), ((1,), (2, 3)))
    assert tokens_needed([[7, 8], [[2, 3], [1]]]) == 3


def test_progress_by_hand() -> None:
    words = ForcedWords([[7, 8, 9], [[1], [2, 3]]])
    assert words.start == Progress((0, 1), 4, (7, 1, 2))
    assert progress(words, 7, 8) == Progress((0, 1), 2, (9, 1, 2))
    assert progress(words, 7, 8, 5) == Progress((0, 1), 4, (7, 1, 2)), "a broken word begins again"
    assert progress(words, 7, 7) == Progress((0, 1), 3, (8, 1, 2)), "the second 7 begins it"
    assert progress(words, 2) == Progress((0, 1), 4, (7, 1, 3)), "the longer way saves nothing"
    assert progress(words, 2, 3) == Progress((0,), 3, (7,))
    assert progress(words, 1, 7, 8, 9, 5) == Progress((), 0, ())


def test_it_depends_on_the_tokens_alone() -> None:
    """In any order of texts, as states that are shared would not: each text is searched as a whole."""
    chance = Random(0)
    lists = [[1, 2, 1], [[2, 2], [3, 1]], [3]]
    words = ForcedWords(lists)
    known: dict[tuple[int, ...], Progress] = {(): words.start}
    for _ in range(3000):
        parent = chance.choice(list(known))
        tokens = (*parent, chance.choice((1, 2, 3)))
        known[tokens] = words.after(known[parent], tokens)
    for tokens, found in known.items():
        missing, rests = [], []
        for number, word in enumerate(words_of(lists)):
            text = "".join(map(str, tokens))
            forms = ["".join(map(str, form)) for form in word]
            if not any(form in text for form in forms):
                missing.append(number)
                ends = [next(n for n in range(len(f) - 1, -1, -1) if text.endswith(f[:n])) for f in forms]
                shortest = min(map(len, forms))
                rests.append((shortest, [len(form) - end for form, end in zip(forms, ends, strict=True)]))
        assert found.missing == tuple(missing)
        saved = max((shortest - min(left) for shortest, left in rests), default=0)
        assert found.needed == sum(shortest for shortest, _ in rests) - max(saved, 0)


def test_banks_take_turns_whatever_the_scores_are() -> None:
    """Candidates 0.. from the best score on; the bank that needs the fewest tokens comes first."""
    assert in_turn_by_bank([3, 3, 3, 0, 1, 3, 0], 5) == [3, 4, 0, 6, 1]
    assert in_turn_by_bank([2, 2, 2], 2) == [0, 1]
    assert in_turn_by_bank([5, 1], 6) == [1, 0]
