"""Templates of the grammar, parsed into symbols: units of text and slots to be filled.

A unit is a word with the space before it, one punctuation mark, a line break, or a marker such as
`<|user|>`. In the fable tokenizer each unit of the grammar's texts is a single token.
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
    """Split a text into units, which join to the text."""
    return UNIT.findall(text)


@dataclass(frozen=True, slots=True)
class Literal:
    """A unit that is written as it is."""

    unit: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A slot for one of a rule's templates."""

    name: str
    space: str


@dataclass(frozen=True, slots=True)
class Draw:
    """A slot for a word that is drawn and remembered (`fresh`: one that is not remembered yet)."""

    slot: str
    category: str
    fresh: bool
    form: str | None
    space: str


@dataclass(frozen=True, slots=True)
class Recall:
    """A slot for a remembered word."""

    slot: str
    form: str | None
    space: str


Symbol = Literal | Rule | Draw | Recall


def parse(template: str) -> tuple[Symbol, ...]:
    """Return the symbols of a template."""
    symbols: list[Symbol] = []
    at = 0
    for match in SYMBOL.finditer(template):
        symbols += [Literal(unit) for unit in units(template[at : match.start()])]
        space, rule, slot, how, category, form = match.groups()
        if rule is not None:
            symbols.append(Rule(rule, space))
        elif category is not None:
            symbols.append(Draw(slot, category, how == "!", form, space))
        else:
            symbols.append(Recall(slot, form, space))
        at = match.end()
    symbols += [Literal(unit) for unit in units(template[at:])]
    return tuple(symbols)


@lru_cache(maxsize=100_000)
def with_space(symbols: tuple[Symbol, ...], space: str) -> tuple[Symbol, ...]:
    """Return the symbols with a space before what the first one writes."""
    if not space or not symbols:
        return symbols
    first = symbols[0]
    if isinstance(first, Literal):
        spaced: Symbol = Literal(space + first.unit)
    elif isinstance(first, Rule):
        spaced = Rule(first.name, space)
    elif isinstance(first, Draw):
        spaced = Draw(first.slot, first.category, first.fresh, first.form, space)
    else:
        spaced = Recall(first.slot, first.form, space)
    return (spaced, *symbols[1:])
