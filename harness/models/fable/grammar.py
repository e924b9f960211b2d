"""A grammar with a memory that writes texts and knows the odds of every next word.

A grammar is a set of rules (name -> weighted templates) over a lexicon (category -> weighted
words). Templates are plain text with three kinds of slots:

- ``<rule>`` continues with one of that rule's templates;
- ``{slot:category}`` draws a word of the category and remembers it as ``slot``
  (``{slot!category}`` draws one that is not in memory yet);
- ``{slot}`` repeats what is remembered; a draw without a slot, ``{:category}``, is not remembered.

``|form`` behind a slot asks for another form of the word: ``{hero|he}`` may be "she",
``{thing|a}`` "an umbrella".

Because everything random is a weighted choice, the distribution of the next word after *any*
prefix is known exactly: :meth:`Grammar.next_words` follows all derivations that agree with the
prefix and adds up where they go on. Models trained on the texts can be held to it.

"Word" means a unit as :mod:`.symbols` cuts them: words with the space before them, marks, line breaks.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from .symbols import END, Draw, Recall, Rule, Symbol, Text, led, parse, units

__all__ = ["END", "Grammar", "Written", "fable_grammar", "units"]

Memory = tuple[tuple[str, str], ...]
Forms = Mapping[str, Mapping[str, str]]
Stack = tuple[Symbol, "Stack"] | None
State = tuple[Stack, Memory]


@dataclass(frozen=True, slots=True)
class Written:
    """One unit of a drawn text and where it came from.

    Attributes:
        unit: the unit itself.
        site: the choices made right before it, e.g. ``rule:ending`` or ``draw:thing``; empty where
            nothing was chosen.
        kind: ``choice``, ``copy`` (a remembered word), ``list`` (a word unlike those before) or
            ``sure``.
    """

    unit: str
    site: str
    kind: str


def _push(symbols: Sequence[Symbol], stack: Stack) -> Stack:
    for symbol in reversed(symbols):
        stack = (symbol, stack)
    return stack


def _remember(memory: Memory, slot: str, word: str) -> Memory:
    return (*memory, (slot, word)) if slot else memory


class Grammar:
    """Rules and a lexicon, to draw texts from and to ask for odds.

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

    def form(self, word: str, form: str | None) -> tuple[Symbol, ...]:
        """Return the symbols that write a word in the form asked for."""
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

    def write(self, rng: random.Random, root: str | None = None) -> list[Written]:
        """Draw a text, unit by unit, ending with :data:`END`.

        Args:
            rng: where the luck comes from.
            root: another rule to start from.
        """
        stack: Stack = (Rule(root or self.root, ""), (Text(END), None))
        memory: Memory = ()
        written: list[Written] = []
        sites: list[str] = []
        kind = "sure"
        while stack is not None:
            symbol, stack = stack
            if isinstance(symbol, Text):
                written.append(Written(symbol.unit, "+".join(sites), kind))
                sites, kind = [], "sure"
            elif isinstance(symbol, Rule):
                options = self.rules[symbol.name]
                if len(options) > 1:
                    sites.append("rule:" + symbol.name)
                    kind = "choice"
                drawn = rng.choices(options, cum_weights=self._cumulative[symbol.name])[0][0]
                stack = _push(led(drawn, symbol.space), stack)
            elif isinstance(symbol, Draw):
                words, cumulative = self._words[symbol.category]
                used = {word for _, word in memory} if symbol.fresh else ()
                while (word := rng.choices(words, cum_weights=cumulative)[0]) in used:
                    pass
                sites.append("draw:" + symbol.category)
                kind = "list" if any(word in self.lexicon[symbol.category] for word in used) else "choice"
                memory = _remember(memory, symbol.slot, word)
                stack = _push(led(self.form(word, symbol.form), symbol.space), stack)
            else:
                if not sites:
                    sites, kind = ["copy:" + symbol.slot + (f"|{symbol.form}" if symbol.form else "")], "copy"
                word = self._recall(memory, symbol.slot)
                stack = _push(led(self.form(word, symbol.form), symbol.space), stack)
        return written

    @staticmethod
    def _recall(memory: Memory, slot: str) -> str:
        for name, word in reversed(memory):
            if name == slot:
                return word
        raise KeyError(f"nothing is remembered as {slot!r}")

    # Odds ------------------------------------------------------------------------------------

    def _step(self, symbol: Symbol, memory: Memory) -> list[tuple[float, tuple[Symbol, ...], Memory]]:
        """All ways a symbol other than :class:`Text` can go on, with their probabilities."""
        if isinstance(symbol, Rule):
            return [(weight, led(drawn, symbol.space), memory) for drawn, weight in self.rules[symbol.name]]
        if isinstance(symbol, Draw):
            used = {word for _, word in memory} if symbol.fresh else ()
            words = {word: p for word, p in self.lexicon[symbol.category].items() if word not in used}
            total = sum(words.values())
            return [
                (
                    p / total,
                    led(self.form(word, symbol.form), symbol.space),
                    _remember(memory, symbol.slot, word),
                )
                for word, p in words.items()
            ]
        assert isinstance(symbol, Recall)
        word = self._recall(memory, symbol.slot)
        return [(1.0, led(self.form(word, symbol.form), symbol.space), memory)]

    def _heads(self, states: Mapping[State, float]) -> dict[str, dict[State, float]]:
        """Follow states up to their next unit: unit -> {state behind it: probability}."""
        heads: dict[str, dict[State, float]] = defaultdict(lambda: defaultdict(float))
        waiting = [(stack, memory, p) for (stack, memory), p in states.items()]
        while waiting:
            stack, memory, p = waiting.pop()
            if stack is None:
                continue
            symbol, rest = stack
            if isinstance(symbol, Text):
                heads[symbol.unit][rest, memory] += p
                continue
            for chance, symbols, after in self._step(symbol, memory):
                waiting.append((_push(symbols, rest), after, p * chance))
        return heads

    def walk(self, text: str, root: str | None = None) -> list[dict[str, float]]:
        """The exact distribution of the next unit at every position of a text, in one pass.

        Args:
            text: how a text of the grammar begins (or all of it).
            root: another rule that the text was written from.

        Returns:
            For a text of n units, n + 1 distributions {unit: probability}: before the first unit,
            after it, and so on. Behind the end of a whole text the distribution is empty.

        Raises:
            ValueError: no text of the grammar begins so.
        """
        heads = self._heads({((Rule(root or self.root, ""), (Text(END), None)), ()): 1.0})
        odds = [{unit: sum(states.values()) for unit, states in heads.items()}]
        for unit in units(text):
            if unit not in heads:
                raise ValueError(f"no text goes on with {unit!r} in {text!r}")
            states = heads[unit]
            total = sum(states.values())
            heads = self._heads({state: p / total for state, p in states.items()})
            odds.append({unit: sum(states.values()) for unit, states in heads.items()})
        return odds

    def next_words(self, prefix: str, root: str | None = None) -> dict[str, float]:
        """The exact distribution of the next unit after a prefix, likeliest first.

        Args:
            prefix: how a text begins; empty for its first unit.
            root: another rule that the text was written from.

        Returns:
            {unit: probability}, summing to 1; :data:`END` stands for the end of the text.

        Raises:
            ValueError: no text of the grammar begins so.
        """
        odds = self.walk(prefix, root)[-1]
        return dict(sorted(odds.items(), key=lambda item: (-item[1], item[0])))


@lru_cache(maxsize=1)
def fable_grammar() -> Grammar:
    """The grammar of the built-in models' texts."""
    from .lexicon import FORMS, LEXICON
    from .stories import STORY_RULES, STORY_WORDS
    from .talk import TALK_RULES

    kinds: dict[str, dict[str, float]] = {
        "text": {"<story>": 56, "<list>": 10, "<country>": 8, "<ask_plain>": 8, "<chat>": 18}
    }
    return Grammar(kinds | STORY_RULES | TALK_RULES, LEXICON | STORY_WORDS, FORMS)
