"""A generated text with its tokens: coloured in a notebook, the alternatives of each shown on hover."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.api.frame import Frame
from harness.api.notebook_html import shown, style
from harness.report.page.palette import DARK, LIGHT, PALETTE

if TYPE_CHECKING:
    import pyarrow as pa

_LEAST_LOGPROB = -7.0  # nats: the end of the scale, as on the pages
_MARKS = {"\n": "↵\n", "\t": "⇥\t"}
_DARK = ('[data-jp-theme-light="false"]', ".theme-dark", ".vscode-dark", '[data-theme="dark"]')
"""Elements around a cell in a dark theme: Jupyter, its classic form, VS Code, documentation."""


class Text:
    """One generated text.

    Attributes:
        prompt_id, sample: of which prompt, and the index among its samples.
        prompt: the text as the model got it.
        output: what was generated.
        facts: the other columns of its row in `generations`: finish_reason, seed, mean_logprob, ...
    """

    def __init__(self, generation: Mapping[str, Any], tokens: pa.Table | None, title: str = "") -> None:
        self.prompt_id: str = generation["prompt_id"]
        self.sample: int = generation["sample"]
        self.prompt: str = generation["prompt"]
        self.output: str = generation["output"]
        named = ("prompt_id", "sample", "prompt", "output")
        self.facts = {name: value for name, value in generation.items() if name not in named}
        self._tokens = tokens
        self._title = title

    @cached_property
    def tokens(self) -> Frame:
        """A row a token, as `Result.tokens` has them; none where only the text is known."""
        import pyarrow as pa

        return Frame(pa.table({}) if self._tokens is None else self._tokens)

    def __str__(self) -> str:
        return self.output

    def __repr__(self) -> str:
        return f"<Text of {self.prompt_id!r}, sample {self.sample}: {self.output!r}>"

    def _repr_html_(self) -> str:
        """Return the prompt, then the tokens in colours from likely to surprising."""
        rows = self.tokens.rows()
        least = min(range(len(rows)), key=lambda i: rows[i].get("logprob") or 0.0, default=None)
        body = "".join(_token_html(row, i == least) for i, row in enumerate(rows)) or shown(self.output)
        known = [f"{self.facts[name]}" for name in ("finish_reason",) if self.facts.get(name)]
        if (mean := self.facts.get("mean_logprob")) is not None:
            known.append(f"mean logprob {mean:.3f}")
        title = " · ".join([*filter(None, [self._title, self.prompt_id]), f"sample {self.sample}", *known])
        return (
            f'{_style()}<div class="harness-text"><p class="note">{shown(title)}</p>'
            f'<div class="body"><span class="prompt">{shown(self.prompt)}</span>{body}</div>{_LEGEND}</div>'
        )


class Texts(Sequence[Text]):
    """Several texts, as `harness.generate` returns them: one a sample."""

    def __init__(self, texts: Sequence[Text]) -> None:
        self._texts = tuple(texts)

    def __getitem__(self, index: Any) -> Any:
        return self._texts[index]

    def __len__(self) -> int:
        return len(self._texts)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self._texts))

    def __repr__(self) -> str:
        return repr(list(self._texts))

    def _repr_html_(self) -> str:
        """Return the texts below each other."""
        return "".join(text._repr_html_() for text in self._texts)


def shade_of(logprob: float | None, rank: int | None) -> int | None:
    """Return the index into the page's scale of colours for a token's log-probability.

    None where it is not known, as of a first token without context (rank 0).
    """
    if logprob is None or rank == 0 or math.isnan(logprob):
        return None
    return round(min(1.0, logprob / _LEAST_LOGPROB) * (len(LIGHT) - 1))


def _token_html(row: Mapping[str, Any], shows: bool) -> str:
    """One token, and the card that hovering over it shows; with `shows` also while over none."""
    token = row.get("token") or ""
    text = shown("".join(_MARKS.get(char, char) for char in token))
    shade = shade_of(row.get("logprob"), row.get("rank"))
    kind = "t" if shade is None else f"t s{shade}"
    if not token:
        kind, text = f"{kind} end", shown("⏹")
    card = "card first" if shows else "card"
    return f'<span class="{kind}" tabindex="0">{text}<span class="{card}">{_card(row)}</span></span>'


def _card(row: Mapping[str, Any]) -> str:
    """The chosen token's numbers, then its alternatives with raw and processed probability."""
    facts = [
        ("probability", _percent(row.get("logprob"))),
        ("processed", _percent(row.get("warped_logprob"))),
        ("rank", row.get("rank") or None),
        ("entropy", None if row.get("entropy") is None else f"{row['entropy']:.2f} nats"),
    ]
    lines = "".join(f"<i>{shown(f'{name} {value}')}</i>" for name, value in facts if value is not None)
    rows = "".join(_alternatives(row))
    table = f"<table><tr><th></th><th>model</th><th>processed</th></tr>{rows}</table>" if rows else ""
    return f"<span><b>{_quoted(row.get('token') or 'end of text')}</b>{lines}</span>{table}"


def _alternatives(row: Mapping[str, Any]) -> Iterator[str]:
    names = row.get("top_tokens") or row.get("top_ids") or ()
    raw, warped = row.get("top_logprobs") or (), row.get("top_warped_logprobs") or ()
    ids = row.get("top_ids") or ()
    for index, name in enumerate(names):
        numbers = (_percent(column[index]) if index < len(column) else None for column in (raw, warped))
        chosen = ' class="is"' if index < len(ids) and ids[index] == row.get("token_id") else ""
        cells = "".join(f"<td>{shown(number or '')}</td>" for number in numbers)
        yield f"<tr{chosen}><td>{_quoted(str(name))}</td>{cells}</tr>"


def _quoted(text: str) -> str:
    return f"“{shown(text.replace(chr(10), '↵').replace(chr(9), '⇥'))}”"


def _percent(logprob: float | None) -> str | None:
    """Return a log-probability as a probability in percent; None where it is not known."""
    if logprob is None or math.isnan(logprob):
        return None
    return "removed" if logprob == -math.inf else f"{100 * math.exp(logprob):.2f}%"


def _style() -> str:
    """The colours of the pages (`report.page.palette`), for light and dark themes."""
    light = "".join(_rule("", i, LIGHT[i], PALETTE["lightInk"][i]) for i in range(len(LIGHT)))
    around = f":is({', '.join(_DARK)}) "
    dark = "".join(_rule(around, i, DARK[i], PALETTE["darkInk"][i]) for i in range(len(DARK)))
    return f"{style('text')}<style>{light}{dark}</style>"


def _rule(around: str, shade: int, paper: str, ink: str) -> str:
    return f"{around}.harness-text .s{shade}{{background:{paper};color:{ink}}}"


_LEGEND = (
    '<div class="ramp">likely<b>'
    + "".join(f'<i class="s{shade}"></i>' for shade in range(0, len(LIGHT), 2))
    + "</b>surprising (probability ≤ 0.001); hover over a token</div>"
)
