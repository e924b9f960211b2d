"""What `harness generate` prints of samples while they come: coloured text, plain text, or JSON lines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rich.style import Style

from harness.backends.backend import Request, TokenStep
from harness.report.console import SafeConsole
from harness.store.files import finite_or_null

_DIM = Style(dim=True)
_LONGEST_PROMPT = 400  # characters that are shown of it

# Readable on dark and on light backgrounds, also with the common kinds of colour blindness.
CLASSES: tuple[tuple[float, str, Style], ...] = (
    (0.9, "≥ 90%", Style()),
    (0.5, "≥ 50%", Style(color="#2e86de")),
    (0.2, "≥ 20%", Style(color="#8e6bd8")),
    (0.05, "≥ 5%", Style(color="#d0682f")),
    (0.0, "< 5%", Style(color="#e0245e", bold=True)),
)
"""Classes of the model's probability of a token: from where, how the legend calls it, and its style."""


def style_of(logprob: float | None) -> Style:
    """Return the style of a token of this log-probability; of one that is not known, none."""
    if logprob is None or math.isnan(logprob):
        return Style()
    return next((style for least, _, style in CLASSES if math.exp(logprob) >= least), CLASSES[-1][2])


class Output(Protocol):
    """Receives samples as they come, one after the other."""

    def begin(self, request: Request) -> None:
        """A sample begins."""

    def token(self, step: TokenStep) -> None:
        """A token has come."""

    def end(self, facts: Mapping[str, Any]) -> None:
        """The sample is complete, or was interrupted; `facts` are as in the last line of JSON."""


class JsonLines:
    """One JSON object a line: each token, then each sample."""

    def __init__(self) -> None:
        self._sample: dict[str, Any] = {}

    def begin(self, request: Request) -> None:
        """Note which sample the next lines are of."""
        self._sample = {"sample": request.sample}

    def token(self, step: TokenStep) -> None:
        """Print the token."""
        known = {name: value for name, value in vars(step).items() if name not in ("position", "pieces")}
        token = {"token_id": known.pop("token_id"), "token": known.pop("token"), "text": step.text}
        self._print({**self._sample, "position": step.position, **token, **known})

    def end(self, facts: Mapping[str, Any]) -> None:
        """Print the sample."""
        self._print({**self._sample, **facts})

    def _print(self, value: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(finite_or_null(value), ensure_ascii=True, allow_nan=False) + "\n")
        sys.stdout.flush()


class TextOutput:
    """The text on standard output, and a line about it on standard error.

    On a terminal the prompt comes first, and tokens are coloured by the model's probability. Elsewhere
    standard output gets the text and nothing else; only several samples end with a line feed each.
    """

    def __init__(self, samples: int, colours: bool, erase: Callable[[], None]) -> None:
        """Expect so many samples; `erase` takes away what the terminal shows before the first token."""
        self._out, self._err = SafeConsole(), SafeConsole(stderr=True)
        if not colours:
            self._out.no_color = self._err.no_color = True
        self._styled = self._out.is_terminal and self._out.color_system is not None
        self._samples, self._left, self._erase = samples, samples, erase
        self._prompt, self._logprobs, self._last = "", list[float | None](), "\n"

    def begin(self, request: Request) -> None:
        """Keep the prompt until the first token comes; say which sample it is where there are several."""
        prompt = request.prompt
        text = f"{prompt.turns[-1]['content']}\n" if prompt.chat else prompt.text
        cut = len(text) > _LONGEST_PROMPT
        self._prompt = f"…{text[-_LONGEST_PROMPT:]}" if cut else text
        self._logprobs = []
        if self._samples > 1:
            self._erase()
            gap = "\n" if self._left < self._samples and self._err.is_terminal else ""
            self._about(f"{gap}sample {request.sample}")
        self._left -= 1

    def token(self, step: TokenStep) -> None:
        """Write what is certain now."""
        self._begin()
        self._logprobs.append(step.logprob)
        for piece in step.pieces:
            self._write(piece.text, style_of(self._logprobs[piece.position]))
        self._flush()

    def end(self, facts: Mapping[str, Any]) -> None:
        """End the line, and say what came."""
        self._begin()
        if (self._out.is_terminal or self._samples > 1) and self._last != "\n":
            self._write("\n")
        self._flush()
        self._last = "\n"
        if self._err.is_terminal:
            self._about("")
        if self._left == 0 or facts["finish_reason"] == "interrupted":
            self._legend()
        self._about(summary(facts))

    def _begin(self) -> None:
        """Write the prompt, where a style tells it from the text."""
        self._erase()
        if self._prompt and self._styled:
            self._write(self._prompt, _DIM)
        self._prompt = ""

    def _write(self, text: str, style: Style | None = None) -> None:
        if text:
            self._last = text[-1]
            self._out.file.write(self._out.styled(text, style or Style()))

    def _flush(self) -> None:
        self._out.file.flush()

    def _legend(self) -> None:
        """Explain the colours, where there are some."""
        coloured = self._styled and self._err.is_terminal and not self._out.no_color
        if coloured and any(value is not None for value in self._logprobs):
            classes = "  ".join(self._err.styled(name, style) for _, name, style in CLASSES)
            self._about(f"{self._err.styled('probability of a token: ', _DIM)}{classes}", ready=True)

    def _about(self, line: str, ready: bool = False) -> None:
        """Print a line on standard error; a `ready` one has its styles."""
        self._err.file.write(f"{line if ready else self._err.styled(line, _DIM)}\n")
        self._err.file.flush()


def summary(facts: Mapping[str, Any]) -> str:
    """Return one line about a sample: tokens, what ended it, mean logprob, time to first token, speed."""
    count = facts["output_tokens"]
    parts = [] if count is None else [f"{count} token{'' if count == 1 else 's'}"]
    parts += [str(facts["finish_reason"]).replace("_", " ")] if facts["finish_reason"] else []
    if facts["mean_logprob"] is not None:
        parts.append(f"mean logprob {facts['mean_logprob']:.2f}")
    if facts["sequence_score"] is not None:
        parts.append(f"score {facts['sequence_score']:.2f}")
    if facts["ttft_ms"] is not None:
        parts.append(f"first token {facts['ttft_ms']:.0f} ms")
    if facts["tokens_per_s"] is not None:
        parts.append(f"{facts['tokens_per_s']:.0f} tokens/s")
    return " · ".join(parts)
