"""The texts of a tokenizer's tokens, for processors that read them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from harness.decoding.detokenizer import Detokenizer


class Vocabulary:
    """The tokens of one `tokenizer`, each with the text that it adds to a text."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._containing: dict[tuple[str, ...], tuple[int, ...]] = {}

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The text of each token by id, with its leading space; empty for special tokens."""
        detokenizer, special = Detokenizer(self.tokenizer), set(self.tokenizer.all_special_ids)
        size = len(self.tokenizer)
        return tuple("" if token in special else detokenizer.token_text(token) for token in range(size))

    def containing(self, parts: tuple[str, ...]) -> tuple[int, ...]:
        """Return the ids of the tokens whose text contains any of the parts."""
        if parts not in self._containing:
            self._containing[parts] = tuple(
                token for token, text in enumerate(self.texts) if any(part in text for part in parts)
            )
        return self._containing[parts]
