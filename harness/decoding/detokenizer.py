"""From token ids to text: a sample's output, and the piece of it that each token completed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
# Tokens of context from which a piece is decoded. No tokenizer's decoding looks further back than a
# character's bytes and a leading space.
_WINDOW = 8


@dataclass(frozen=True)
class OutputText:
    """A sample's text: `output`, and `pieces`, one a token, which join to it."""

    output: str
    pieces: tuple[str, ...]


class Detokenizer:
    """Decodes with one tokenizer: special tokens are dropped, spaces are left as they are."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.all_special_ids)
        self._alone: dict[int, str] = {}
        self._anchor: tuple[list[int], str] | None = None

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens dropped."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def alone(self, token_id: int) -> str:
        """What a token would add after ordinary text, its leading space kept; for lists of alternatives.

        A special token is shown by its name, since its text is what tells it from others.
        """
        known = self._alone.get(token_id)
        if known is None:
            if token_id in self._special:
                known = str(self._tokenizer.convert_ids_to_tokens(token_id))
            else:
                if self._anchor is None:
                    ids = self._tokenizer.encode("a", add_special_tokens=False)
                    self._anchor = (ids, self.decode(ids))
                ids, text = self._anchor
                known = self.decode([*ids, token_id])[len(text) :]
            self._alone[token_id] = known
        return known

    def output(self, prompt_ids: Sequence[int], generated: Sequence[int]) -> str:
        """decode(prompt + generated) less decode(prompt)."""
        before = self.decode(prompt_ids)
        whole = self.decode([*prompt_ids, *generated])
        if whole.startswith(before):
            return whole[len(before) :]
        # The prompt ended inside a character that the output completed.
        return whole[len(before.rstrip(_UNFINISHED)) :]

    def output_text(self, prompt_ids: Sequence[int], generated: Sequence[int]) -> OutputText:
        """The output and its pieces; a token that completes no character yet has an empty piece."""
        output = self.output(prompt_ids, generated)
        pieces = self._pieces(list(prompt_ids), list(generated))
        if "".join(pieces) != output:
            pieces = self._pieces_from_whole(list(prompt_ids), list(generated), output)
        return OutputText(output, tuple(pieces))

    def _last_spoken(self, generated: Sequence[int]) -> int:
        """How many tokens there are up to the last one that is text: it ends a character left unfinished."""
        spoken = len(generated)
        while spoken > 1 and generated[spoken - 1] in self._special:
            spoken -= 1
        return spoken

    def _pieces(self, prompt_ids: list[int], generated: list[int]) -> list[str]:
        """Each token's piece decoded in a short window that starts where text was last complete."""
        ids = [*prompt_ids, *generated]
        done, final = len(prompt_ids), len(prompt_ids) + self._last_spoken(generated)
        start = max(0, done - _WINDOW)
        told = self.decode(ids[start:done])
        pieces = []
        for end in range(done + 1, len(ids) + 1):
            text = self.decode(ids[start:end])
            if text.endswith(_UNFINISHED) and end != final:
                pieces.append("")
                continue
            pieces.append(text[len(told) :])
            start = max(0, end - _WINDOW)
            told = self.decode(ids[start:end])
        return pieces

    def _pieces_from_whole(self, prompt_ids: list[int], generated: list[int], output: str) -> list[str]:
        """The slow and certain way: pieces are the growth of the part of `output` that is settled."""
        pieces, told = [], 0
        final = self._last_spoken(generated)
        for end in range(1, len(generated) + 1):
            text = self.output(prompt_ids, generated[:end]).rstrip(_UNFINISHED)
            settled = len(text) if output.startswith(text) else told
            if end >= final:
                settled = len(output)
            settled = max(settled, told)
            pieces.append(output[told:settled])
            told = settled
        return pieces
