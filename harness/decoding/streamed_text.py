"""A text that is shown while it grows: what a new token makes certain, and nothing that may still change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.decoding.detokenizer import INCOMPLETE, Detokenizer

# Tokens of the prompt that the output is decoded with; see `detokenizer`.
_CONTEXT = 8


class Piece(NamedTuple):
    """Text that a token (its position in the output, from 0) has added."""

    position: int
    text: str


class StreamedText:
    """The output of one sample, token by token; the pieces join to `Detokenizer.output` of all tokens.

    Held back are the bytes of a character that is not complete, a run of byte tokens (one that is wrong
    changes the text of all), and what may be the beginning of a stop string: whoever reads the pieces sees a
    stop string at the end of the last ones, never half of it before.
    """

    def __init__(
        self, detokenizer: Detokenizer, prompt_ids: Sequence[int], stop_strings: Sequence[str] = ()
    ) -> None:
        self._detokenizer = detokenizer
        start = max(0, len(prompt_ids) - _CONTEXT)
        while start > 0 and (detokenizer.is_byte(one := prompt_ids[start]) or detokenizer.has_no_text(one)):
            start -= 1
        self._context = list(prompt_ids)[start:]
        self._stop_strings = stop_strings
        self._tokens: list[int] = []
        self._shown = 0
        self._ends: list[int] = []  # of each token, how long the output is with it
        self._in_run = False
        for token_id in self._context:
            self._in_run = self._goes_on_with_bytes(token_id)

    def add(self, token_id: int, *, last: bool) -> tuple[Piece, ...]:
        """Return what may be shown now that there is one more token; all that is left with the `last` one."""
        was_in_run, self._in_run = self._in_run, self._goes_on_with_bytes(token_id)
        if was_in_run and not self._in_run and self._ends:
            self._ends[-1] = len(self._detokenizer.output(self._context, self._tokens))
        self._tokens.append(token_id)
        output = self._detokenizer.output(self._context, self._tokens)
        if last:
            self._ends.append(len(output))
            return tuple(self._pieces(output, len(output)))
        if self._in_run:
            self._ends.append(self._ends[-1] if self._ends else 0)
            return ()
        certain = output.rstrip(INCOMPLETE)
        self._ends.append(len(certain))
        return tuple(self._pieces(certain, len(certain) - held_back(certain, self._stop_strings)))

    def _goes_on_with_bytes(self, token_id: int) -> bool:
        """Return whether a run of byte tokens begins or goes on with a token; one without text ends none."""
        if self._detokenizer.has_no_text(token_id):
            return self._in_run
        return self._detokenizer.is_byte(token_id)

    def _pieces(self, output: str, end: int) -> list[Piece]:
        """Return what was not shown before of `output[:end]`, divided by tokens."""
        found = []
        for position, stop in enumerate(self._ends):
            stop = min(stop, end)
            if stop > self._shown:
                found.append(Piece(position, output[self._shown : stop]))
                self._shown = stop
        return found


def held_back(text: str, stop_strings: Sequence[str]) -> int:
    """Return how many characters at the end of a text may be the beginning of a stop string."""
    longest = 0
    for stop in stop_strings:
        for length in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:length]):
                longest = length
                break
    return longest
