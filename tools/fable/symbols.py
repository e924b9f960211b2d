"""Templates of the grammar, read into symbols: units of text and slots to be filled.

The unit is a word with the space before it, one punctuation mark, a line break, or a marker such as
``<|user|>``. The fable tokenizer keeps each unit of the grammar's texts a single piece.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

END = "<|end|>"
"""The unit that ends every text."""

UNIT = re.compile(r"<\|[a-z]+\|>|'s\b| ?[^\W\d_]+| ?\d| ?[^\w\s]|\s|_")
SYMBOL = re.compile(r"( ?)(?:<([a-z_0-9]+)>|\{([a-z_0-9]*)(?:([:!])([a-z_0-9]+))?(?:\|([A-Za-z_]+))?\})")


def units(text: str) -> list[str]:
    """Split a text into units; joined, they are the text again."""
    return UNIT.findall(text)


@dataclass(frozen=True, slots=True)
class Text:
    """A unit to be written as it is."""

    unit: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A place where one of a rule's templates follows."""

    name: str
    space: str


@dataclass(frozen=True, slots=True)
class Draw:
    """A place where a word is drawn and remembered (``fresh``: unlike all remembered)."""

    slot: str
    category: str
    fresh: bool
    form: str | None
    space: str


@dataclass(frozen=True, slots=True)
class Recall:
    """A place where a remembered word is repeated."""

    slot: str
    form: str | None
    space: str


Symbol = Text | Rule | Draw | Recall


def parse(template: str) -> tuple[Symbol, ...]:
    """Turn a template into symbols."""
    symbols: list[Symbol] = []
    at = 0
    for match in SYMBOL.finditer(template):
        symbols += [Text(unit) for unit in units(template[at : match.start()])]
        space, rule, slot, how, category, form = match.groups()
        if rule is not None:
            symbols.append(Rule(rule, space))
        elif category is not None:
            symbols.append(Draw(slot, category, how == "!", form, space))
        else:
            symbols.append(Recall(slot, form, space))
        at = match.end()
    symbols += [Text(unit) for unit in units(template[at:])]
    return tuple(symbols)


@lru_cache(maxsize=100_000)
def led(symbols: tuple[Symbol, ...], space: str) -> tuple[Symbol, ...]:
    """Put a space before what the first symbol writes."""
    if not space or not symbols:
        return symbols
    first = symbols[0]
    if isinstance(first, Text):
        led: Symbol = Text(space + first.unit)
    elif isinstance(first, Rule):
        led = Rule(first.name, space)
    elif isinstance(first, Draw):
        led = Draw(first.slot, first.category, first.fresh, first.form, space)
    else:
        led = Recall(first.slot, first.form, space)
    return (led, *symbols[1:])
