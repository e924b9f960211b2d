"""The answer of a sweep on the terminal: a sentence a line, its evidence dim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from harness.analysis.sentence import Sentence
from harness.terminal import visible

_TONES = {"good": "bold green", "bad": "bold yellow", "": "bold"}


def answer_text(sentences: Sequence[Sentence], names: Mapping[str, str]) -> Table:
    """Return the sentences below each other: the title, beside it the statement and its figures, wrapped.

    Args:
        sentences: most important first.
        names: shorter names of points by label.
    """
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for sentence in sentences:
        evidence = f" ({visible(sentence.evidence)})" if sentence.evidence else ""
        statement = Text.assemble(visible(sentence.text(names)), (evidence, "dim"))
        grid.add_row(Text(f"{visible(sentence.title)}:", _TONES[sentence.tone]), statement)
    return grid
