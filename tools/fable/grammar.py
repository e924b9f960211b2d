"""A grammar with a memory, which writes texts and knows the exact probabilities of every next word.

A grammar is a set of rules (name -> weighted templates) over a lexicon (category -> weighted
words). Templates are plain text with three kinds of slots:

- ``<rule>`` continues with one of that rule's templates;
- ``{slot:category}`` draws a word of the category and remembers it as ``slot``
  (``{slot!category}`` draws one that is not remembered yet);
- ``{slot}`` repeats what is remembered; a draw without a slot, ``{:category}``, is not remembered.

``|form`` at the end of a slot gives another form of the word: ``{hero|he}`` may be "she",
``{thing|a}`` "an umbrella".

Because everything random is a weighted choice, the distribution of the next word after *any*
prefix is known exactly: `Grammar.next_words` follows all derivations of the prefix and sums the
probabilities of their next units. Models trained on the texts can be compared with it.

"Word" means a unit of `symbols`: words with the space before them, punctuation marks, line breaks.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from .symbols import END, Draw, Literal, Recall, Rule, Symbol, parse, units, with_space

__all__ = ["END", "Grammar", "WrittenUnit", "fable_grammar", "units"]

Memory = tuple[tuple[str, str], ...]
Forms = Mapping[str, Mapping[str, str]]
Stack = tuple[Symbol, "Stack"] | None
State = tuple[Stack, Memory]


PHRASES = ("a", "in")
"""Forms that end with the word itself, so that all of their words are copies."""


@dataclass(frozen=True, slots=True)
class WrittenUnit:
    """One unit of a text, and how it was chosen.

    Attributes:
        unit: the unit itself.
        site: the choices made right before it, e.g. `rule:ending` or `draw:thing`; empty where nothing was
            chosen.
        kind: `choice`, `copy` (a remembered word), `list` (a word other than the earlier ones) or `sure`.
    """

    unit: str
    site: str
    kind: str


def _push(symbols: Sequence[Symbol], stack: Stack) -> Stack:
    for symbol in reversed(symbols):
        stack = (symbol, stack)
    return stack


def _probabilities(heads: Mapping[str, list[tuple[State, float]]]) -> dict[str, float]:
    return {unit: sum(p for _, p in states) for unit, states in heads.items()}


def _remember(memory: Memory, slot: str, word: str) -> Memory:
    return (*memory, (slot, word)) if slot else memory


class Grammar:
    """Rules and a lexicon, from which texts are drawn and probabilities are computed.

    Args:
        rules: rule name -> {template: weight}.
        lexicon: category -> {word: weight}.
        forms: word -> {form: text}. A missing form ``a`` is the word with its indefinite article, a
            missing capitalised form the capitalised word; other missing forms are errors.
        root: the rule that writes a whole text.
    """

    def __init__(
        self,
        rules: Mapping[str, Mapping[str, float]],
        lexicon: Mapping[str, Mapping[str, float]],
        forms: Forms,
        root: str = "text",
    ) -> None:
        self.forms = forms
        self.root = root
        self.rules = {
            name: [(parse(text), weight / sum(options.values())) for text, weight in options.items()]
            for name, options in rules.items()
        }
        self.lexicon = {
            name: {word: weight / sum(words.values()) for word, weight in words.items()}
            for name, words in lexicon.items()
        }
        self._cumulative = {
            name: list(accumulate(weight for _, weight in options)) for name, options in self.rules.items()
        }
        self._words = {
            name: (list(words), list(accumulate(words.values()))) for name, words in self.lexicon.items()
        }
        self._formed: dict[tuple[str, str | None, str], tuple[Symbol, ...]] = {}

    def form(self, word: str, form: str | None, space: str = "") -> tuple[Symbol, ...]:
        """Return the symbols that write a word in a form, with `space` before it."""
        key = (word, form, space)
        if key not in self._formed:
            self._formed[key] = with_space(self._form(word, form), space)
        return self._formed[key]

    def _form(self, word: str, form: str | None) -> tuple[Symbol, ...]:
        if form is None:
            return parse(word)
        known = self.forms.get(word, {})
        if form in known:
            return parse(known[form])
        if form == "a":
            return parse(("an " if word[0] in "aeiou" else "a ") + word)
        if form == "A":
            return parse(("An " if word[0] in "aeiou" else "A ") + word)
        if form == "Cap":
            return parse(word[0].upper() + word[1:])
        raise KeyError(f"{word!r} has no form {form!r}")

    # Drawing ---------------------------------------------------------------------------------

    def write(self, rng: random.Random, root: str | None = None) -> list[WrittenUnit]:
        """Draw a text, unit by unit, ending with `END`.

        Args:
            rng: the source of randomness.
            root: another rule to start from.
        """
        stack: Stack = (Rule(root or self.root, ""), (Literal(END), None))
        memory: Memory = ()
        written: list[WrittenUnit] = []
        sites: list[str] = []
        kind = "sure"
        copied = 0
        while stack is not None:
            symbol, stack = stack
            if isinstance(symbol, Literal):
                written.append(WrittenUnit(symbol.unit, "+".join(sites), kind))
                copied = max(copied - 1, 0)
                sites, kind = (sites, "copy") if copied else ([], "sure")
            elif isinstance(symbol, Rule):
                options = self.rules[symbol.name]
                if len(options) > 1:
                    sites.append("rule:" + symbol.name)
                    kind = "choice"
                drawn = rng.choices(options, cum_weights=self._cumulative[symbol.name])[0][0]
                stack = _push(with_space(drawn, symbol.space), stack)
            elif isinstance(symbol, Draw):
                words, cumulative = self._words[symbol.category]
                used = {word for _, word in memory} if symbol.fresh else ()
                while (word := rng.choices(words, cum_weights=cumulative)[0]) in used:
                    pass
                sites.append("draw:" + symbol.category)
                kind = "list" if any(word in self.lexicon[symbol.category] for word in used) else "choice"
                memory = _remember(memory, symbol.slot, word)
                stack = _push(self.form(word, symbol.form, symbol.space), stack)
            else:
                form = self.form(self._recall(memory, symbol.slot), symbol.form, symbol.space)
                if not sites:
                    sites, kind = ["copy:" + symbol.slot + (f"|{symbol.form}" if symbol.form else "")], "copy"
                    copied = len(form) if symbol.form in PHRASES else 0
                stack = _push(form, stack)
        return written

    @staticmethod
    def _recall(memory: Memory, slot: str) -> str:
        for name, word in reversed(memory):
            if name == slot:
                return word
        raise KeyError(f"nothing is remembered as {slot!r}")

    # Probabilities ------------------------------------------------------------------------------------

    def _step(self, symbol: Symbol, memory: Memory) -> list[tuple[float, tuple[Symbol, ...], Memory]]:
        """Return all expansions of a symbol other than `Literal`, with their probabilities."""
        if isinstance(symbol, Rule):
            return [
                (weight, with_space(drawn, symbol.space), memory) for drawn, weight in self.rules[symbol.name]
            ]
        if isinstance(symbol, Draw):
            used = {word for _, word in memory} if symbol.fresh else ()
            words = {word: p for word, p in self.lexicon[symbol.category].items() if word not in used}
            total = sum(words.values())
            return [
                (
                    p / total,
                    self.form(word, symbol.form, symbol.space),
                    _remember(memory, symbol.slot, word),
                )
                for word, p in words.items()
            ]
        assert isinstance(symbol, Recall)
        word = self._recall(memory, symbol.slot)
        return [(1.0, self.form(word, symbol.form, symbol.space), memory)]

    def _heads(self, states: Iterable[tuple[State, float]]) -> dict[str, list[tuple[State, float]]]:
        """Follow states to their next unit: unit -> the states after it, with probabilities."""
        heads: dict[str, list[tuple[State, float]]] = defaultdict(list)
        waiting = list(states)
        while waiting:
            (stack, memory), p = waiting.pop()
            if stack is None:
                continue
            symbol, rest = stack
            if isinstance(symbol, Literal):
                heads[symbol.unit].append(((rest, memory), p))
                continue
            for chance, symbols, after in self._step(symbol, memory):
                waiting.append(((_push(symbols, rest), after), p * chance))
        return heads

    def walk(self, text: str, root: str | None = None) -> list[dict[str, float]]:
        """Return the exact distribution of the next unit at every position of a text, in one pass.

        Args:
            text: how a text of the grammar begins (or all of it).
            root: another rule that the text was written from.

        Returns:
            For a text of n units, n + 1 distributions {unit: probability}: before the first unit,
            after it, and so on. After the end of a complete text the distribution is empty.

        Raises:
            ValueError: no text of the grammar begins like that.
        """
        heads = self._heads([(((Rule(root or self.root, ""), (Literal(END), None)), ()), 1.0)])
        probabilities = [_probabilities(heads)]
        for unit in units(text):
            if unit not in heads:
                raise ValueError(f"no text continues with {unit!r} in {text!r}")
            total = probabilities[-1][unit]
            heads = self._heads([(state, p / total) for state, p in heads[unit]])
            probabilities.append(_probabilities(heads))
        return probabilities

    def next_words(self, prefix: str, root: str | None = None) -> dict[str, float]:
        """Return the exact distribution of the next unit after a prefix, most likely first.

        Args:
            prefix: how a text begins; empty for its first unit.
            root: another rule that the text was written from.

        Returns:
            {unit: probability}, summing to 1; `END` stands for the end of the text.

        Raises:
            ValueError: no text of the grammar begins like that.
        """
        probabilities = self.walk(prefix, root)[-1]
        return dict(sorted(probabilities.items(), key=lambda item: (-item[1], item[0])))


@lru_cache(maxsize=1)
def fable_grammar() -> Grammar:
    """Return the grammar of the built-in models' texts."""
    from .lexicon import FORMS, LEXICON
    from .stories import STORY_RULES, STORY_WORDS
    from .talk import TALK_RULES

    kinds: dict[str, dict[str, float]] = {
        "text": {"<story>": 55, "<list>": 12, "<country>": 8, "<ask_plain>": 8, "<chat>": 17}
    }
    return Grammar(kinds | STORY_RULES | TALK_RULES, LEXICON | STORY_WORDS, FORMS)
