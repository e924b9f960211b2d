"""The answer in an output: what `compare.answer_pattern` finds last in it, else the whole text."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any

from harness.errors import HarnessError

LAST_NUMBER = r"(?:(?<!\w)[-−])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
"""The pattern where none is given: the last number of the text, as `-1,234.5`."""

LONGEST = 20_000
"""Characters at the end of an output that are searched."""

SECONDS = 0.25
"""How long one output may be searched: a pattern of nested repetitions takes forever on some texts."""

MOST_TIMEOUTS = 4
"""Outputs that may take longer, which count as without a match; of more, the pattern is refused."""

_VERSION = "1"  # raise it when answers are found or normalised otherwise
_NUMBER = re.compile(LAST_NUMBER)


@dataclass
class AnswerPattern:
    """Finds answers in outputs, which are hostile: texts and time are bounded.

    Attributes:
        expression: a regular expression of the `regex` package; None for LAST_NUMBER.
        timeouts: outputs so far that took longer than SECONDS.
    """

    expression: str | None = None
    timeouts: int = field(default=0, compare=False)

    def answer(self, text: str) -> str:
        """Return the answer in a text: the last match, its group 1 where there is one that took part.

        Without a match it is the whole text, surrounding white space aside. Either is normalised, so that
        `1,000.0` equals `1000`, and `Paris` equals `paris`.

        Raises:
            HarnessError: the expression takes too long on too many texts.
        """
        found = self.match(text)
        return normalised(text if found is None else found)

    def match(self, text: str) -> str | None:
        """Return what the pattern finds last in a text, as it stands there; None where it finds nothing."""
        try:
            last = deque(self._compiled.finditer(text[-LONGEST:], timeout=SECONDS), maxlen=1)
        except TimeoutError:
            self.timeouts += 1
            if self.timeouts > MOST_TIMEOUTS:
                raise HarnessError(
                    f"compare.answer_pattern={self.expression}: takes over {SECONDS} s on each of "
                    f"{self.timeouts} outputs; write it without repetitions of repetitions, as (a+)+"
                ) from None
            return None
        if not last:
            return None
        first = last[0].group(1) if last[0].re.groups else None
        return str(last[0].group(0) if first is None else first)

    @property
    def facts(self) -> list[str]:
        """What answers depend on, for the record of metrics that are computed from them."""
        return [_VERSION, LAST_NUMBER if self.expression is None else self.expression]

    @cached_property
    def _compiled(self) -> Any:
        import regex

        return regex.compile(LAST_NUMBER if self.expression is None else self.expression)


def normalised(answer: str) -> str:
    """Return an answer as it is compared: a number by its value, a text without case and extra blanks."""
    text = " ".join(answer.split()).casefold()
    if not _NUMBER.fullmatch(text):
        return text
    try:
        number = Decimal(text.replace(",", "").replace("−", "-"))
    except InvalidOperation:
        return text
    plain = format(number, "f")
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain.lstrip("0") or "0"
    return {"-0": "0", "": "0", "-": "0"}.get(plain, plain)
