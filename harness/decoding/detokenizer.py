"""From token ids to text: a sample's output, and the text that each of its tokens adds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What stands for the bytes of a character that are not all there."""
_USUAL = ("transformers.tokenization_utils_base", "transformers.tokenization_utils_tokenizers")
"""Where `decode` and `_decode` are defined, unless a tokenizer's class has its own."""
_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")
# Tokens of context from which a token's text is decoded. No tokenizer's decoding looks further back than a
# character's bytes and a leading space.
_WINDOW = 8
_LONGEST = 3 * _WINDOW  # tokens of a window that grows until the next one begins


@dataclass(frozen=True)
class OutputText:
    """A sample's text: `output`, and `token_texts`, one a token, which join to it."""

    output: str
    token_texts: tuple[str, ...]


class Detokenizer:
    """Decodes with one tokenizer: special tokens are dropped, spaces are left as they are."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._fast = _fast_decode(tokenizer)
        self._special = frozenset(tokenizer.all_special_ids)
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self._silent = self._special | {token_id for token_id, token in added.items() if token.special}
        self._token_texts: dict[int, str] = {}
        self._bytes: dict[int, bool] = {}

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens dropped."""
        if self._fast is not None:
            return self._fast(list(ids), skip_special_tokens=True)
        return self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def token_text(self, token_id: int) -> str:
        """Return what a token would add after ordinary text, with its leading space; for alternatives.

        A special token is shown by its name, since its text would not distinguish it.
        """
        if token_id not in self._token_texts:
            if token_id in self._special:
                text = str(self._tokenizer.convert_ids_to_tokens(token_id))
            else:
                anchor, anchor_text = self._anchor
                text = self.decode([*anchor, token_id])[len(anchor_text) :]
            self._token_texts[token_id] = text
        return self._token_texts[token_id]

    def has_no_text(self, token_id: int) -> bool:
        """Return whether a token is dropped from every text."""
        return token_id in self._silent

    def is_byte(self, token_id: int) -> bool:
        """Return whether a token stands for one byte, as `<0x0A>`: a run of those is decoded as a whole."""
        if token_id not in self._bytes:
            name = str(self._tokenizer.convert_ids_to_tokens(token_id))
            self._bytes[token_id] = _BYTE.fullmatch(name) is not None
        return self._bytes[token_id]

    @cached_property
    def _anchor(self) -> tuple[list[int], str]:
        ids = self._tokenizer.encode("a", add_special_tokens=False)
        return ids, self.decode(ids)

    def output(self, prompt_ids: Sequence[int], generated: Sequence[int]) -> str:
        """Return decode(prompt + generated) less decode(prompt)."""
        prompt = self.decode(prompt_ids)
        text = self.decode([*prompt_ids, *generated])
        if text.startswith(prompt):
            return text[len(prompt) :]
        # The prompt ended inside a character that the output completed.
        return text[len(prompt.rstrip(INCOMPLETE)) :]

    def contains(self, stops: Sequence[str], prompt_ids: Sequence[int], generated: Sequence[int]) -> bool:
        """Return whether the output contains one of some stop strings."""
        if not stops:
            return False
        output = self.output(prompt_ids, generated)
        return any(stop in output for stop in stops)

    def output_text(self, prompt_ids: Sequence[int], generated: Sequence[int]) -> OutputText:
        """Return the output and the text of each token, empty where a token completes no character yet."""
        output = self.output(prompt_ids, generated)
        texts = self._texts_by_window(list(prompt_ids), list(generated))
        if "".join(texts) != output:
            texts = self._texts_by_prefix(list(prompt_ids), list(generated), output)
        return OutputText(output, tuple(texts))

    def _last_text_token(self, generated: Sequence[int]) -> int:
        """Return the number of tokens up to the last one with text, which ends an incomplete character."""
        count = len(generated)
        while count > 1 and generated[count - 1] in self._special:
            count -= 1
        return count

    def _texts_by_window(self, prompt_ids: list[int], generated: list[int]) -> list[str]:
        """Decode each token in a short window; a window begins where the text before it is complete."""
        ids = [*prompt_ids, *generated]
        done, final = len(prompt_ids), len(prompt_ids) + self._last_text_token(generated)
        start = max(0, done - _WINDOW)
        decoded = self.decode(ids[start:done])
        texts = []
        for end in range(done + 1, len(ids) + 1):
            text = self.decode(ids[start:end])
            if text.endswith(INCOMPLETE) and end != final:
                texts.append("")
                continue
            texts.append(text[len(decoded) :])
            decoded = text
            if end - start >= _LONGEST:
                start = end - _WINDOW
                decoded = self.decode(ids[start:end])
        return texts

    def _texts_by_prefix(self, prompt_ids: list[int], generated: list[int], output: str) -> list[str]:
        """Decode every prefix: slow, and right for any tokenizer.

        A token's text is what it adds to the prefix of `output` that later tokens no longer change.
        """
        texts, stable = [], 0
        final = self._last_text_token(generated)
        for end in range(1, len(generated) + 1):
            length, text = stable, self.output(prompt_ids, generated[:end]).rstrip(INCOMPLETE)
            if end >= final:
                length = len(output)
            elif output.startswith(text):
                length = max(len(text), stable)
            texts.append(output[stable:length])
            stable = length
        return texts


def _fast_decode(tokenizer: Any) -> Callable[..., str] | None:
    """Return the `decode` of the library below a transformers tokenizer; None where a class has its own.

    transformers' first looks at each id by itself, which takes four times as long as decoding.
    """
    below = getattr(tokenizer, "backend_tokenizer", None)
    defined = tuple(
        getattr(getattr(type(tokenizer), name, None), "__module__", None) for name in ("decode", "_decode")
    )
    return below.decode if below is not None and defined == _USUAL else None
