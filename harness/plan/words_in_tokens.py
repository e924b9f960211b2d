"""The words that outputs are to hold, in a model's own tokens; and whether they can hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.config.no_effect import typed
from harness.config.point import Point
from harness.decoding.forced_words import tokens_needed, words_of
from harness.errors import ConfigError, Mistake

Ids = list[int]


def forced_words(point: Point, tokenizer: Any) -> list[Ids | list[Ids]] | None:
    """Return `force_words_ids` with the alternatives of each text in `force_words`; None without any.

    Raises:
        ConfigError: a word cannot be said in the tokens of the model.
    """
    given = point.decoding.force_words
    if given is None or tokenizer is None:
        return None
    alternatives = [_alternatives(word, tokenizer) for word in given]
    if lost := [word for word, found in zip(given, alternatives, strict=True) if not found]:
        problem = f"{point.model.name} has no tokens for {lost[0]!r}; remove it, or write it in another way"
        raise ConfigError.of(typed("force_words", given), problem)
    by_ids = [_as_lists(word) for word in point.decoding.force_words_ids or ()]
    return [*by_ids, *alternatives]


def forced_words_fit(point: Point, effective: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield that the budget is too small for the words, or that their tokens are forbidden."""
    values = effective.get("force_words_ids")
    if not values:
        return
    names = [name for name in ("force_words", "force_words_ids") if getattr(point.decoding, name)]
    text = typed(names[0], getattr(point.decoding, names[0]))
    budget, needed = point.generation.max_new_tokens, tokens_needed(values)
    if needed > budget:
        cure = f"use generation.max_new_tokens={needed}"
        yield Mistake(text, f"needs {needed} tokens, and generation.max_new_tokens is {budget}; {cure}")
    banned = set(point.decoding.suppress_tokens or ())
    if any(all(banned & set(one) for one in word) for word in words_of(values)):
        yield Mistake(text, "has a word that decoding.suppress_tokens forbids; leave its tokens out there")


def _alternatives(word: str, tokenizer: Any) -> list[Ids]:
    """Return the token sequences of a word with and without a space before it, each once, shortest first.

    Those that hold another one are left out: a text that has them has that one too.
    """
    found: dict[tuple[int, ...], None] = {}
    for text in dict.fromkeys((word, f" {word.lstrip()}" if word == word.lstrip() else word)):
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        says = tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        if ids and tokenizer.unk_token_id not in ids and says.strip() == text.strip():
            found[ids] = None
    kept: list[Ids] = []
    for one in sorted(found, key=len):
        if not any(_holds(one, other) for other in kept):
            kept.append(list(one))
    return kept


def _holds(ids: Sequence[int], part: Sequence[int]) -> bool:
    starts = range(len(ids) - len(part) + 1)
    return any(list(ids[start : start + len(part)]) == list(part) for start in starts)


def _as_lists(word: Any) -> Any:
    return [_as_lists(one) for one in word] if isinstance(word, tuple) else word
