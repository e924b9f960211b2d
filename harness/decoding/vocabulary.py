"""The texts of a tokenizer's tokens, for processors that read them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from harness.decoding.detokenizer import Detokenizer
from harness.errors import HarnessError


class Vocabulary:
    """The tokens of one `tokenizer`, each with the text that it adds to a text."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._containing: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._for_matching: dict[tuple[int, tuple[int, ...]], Any] = {}

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The text of each token by id, with its leading space; empty for special tokens."""
        detokenizer, special = Detokenizer(self.tokenizer), set(self.tokenizer.all_special_ids)
        size = len(self.tokenizer)
        return tuple("" if token in special else detokenizer.token_text(token) for token in range(size))

    @property
    def size(self) -> int:
        """The number of tokens, added ones included; a model may have more logits, or fewer."""
        return len(self.tokenizer)

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The tokenizer's own EOS; empty where it has none."""
        eos = self.tokenizer.eos_token_id
        return () if eos is None else (int(eos),)

    def for_matching(self, size: int, eos_ids: tuple[int, ...]) -> Any:
        """Return the bytes of the tokens as llguidance reads them, made once: of many it takes a second.

        Args:
            size: number of the model's logits.
            eos_ids: what ends a text.

        Raises:
            HarnessError: nothing ends a text.
        """
        if not eos_ids:
            raise HarnessError("a structured output ends with EOS, and the tokenizer has none")
        key = (max(size, self.size), eos_ids)
        if key not in self._for_matching:
            from llguidance.hf import from_tokenizer

            self._for_matching[key] = from_tokenizer(self.tokenizer, n_vocab=key[0], eos_token=list(eos_ids))
        return self._for_matching[key]

    def containing(self, parts: tuple[str, ...]) -> tuple[int, ...]:
        """Return the ids of the tokens whose text contains any of the parts."""
        if parts not in self._containing:
            texts = self.texts if parts else ()
            self._containing[parts] = tuple(
                token for token, text in enumerate(texts) if any(part in text for part in parts)
            )
        return self._containing[parts]
