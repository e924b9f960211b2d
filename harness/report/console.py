"""Rich's console, for text of any kind."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TextIO

from rich.console import COLOR_SYSTEMS, Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from harness.terminal import ReaderGoneError, visible


class SafeConsole(Console):
    """A console on which text is only text: no markup, no emoji codes, hidden characters become marks.

    Styles and the control codes of progress bars are rich's own and stay.
    """

    def __init__(
        self,
        stderr: bool = False,
        highlight: bool = False,
        quiet: bool = False,
        into: TextIO | None = None,
        width: int | None = None,
    ) -> None:
        """Make a console.

        Args:
            stderr: whether it writes to standard error, not to standard output.
            highlight: whether numbers stand out.
            quiet: whether it writes nothing.
            into: what it writes to instead, as plain text, and records for `export_html`.
            width: columns; those of the terminal when None.
        """
        stream = into or (sys.stderr if stderr else sys.stdout)
        # Behind a VisibleStream, which would mark rich's own escape sequences.
        super().__init__(
            file=getattr(stream, "behind", stream),
            markup=False,
            emoji=False,
            highlight=highlight,
            quiet=quiet,
            width=width,
            record=into is not None,
            color_system=None if into is not None else "auto",
            force_terminal=False if into is not None else None,
            force_jupyter=False if into is not None else None,
        )

    @property
    def shows_links(self) -> bool:
        """Whether a link can hide behind a short text: on a terminal that is known to open it (OSC 8).

        The Linux console and Terminal.app of macOS show the text alone.
        """
        blind = os.environ.get("TERM") == "linux" or os.environ.get("TERM_PROGRAM") == "Apple_Terminal"
        return self.is_terminal and self.color_system is not None and not blind

    def link(self, text: str, url: str) -> Text:
        """Return the text as a link to the URL where the terminal shows links, else the text alone."""
        return Text(visible(text), Style(link=visible(url)) if self.shows_links else "")

    def on_broken_pipe(self) -> None:
        """End the command: `main` decides on the exit status."""
        self.quiet = True
        raise ReaderGoneError(1)

    def styled(self, text: str, style: Style) -> str:
        """Return a text as it is written piece by piece, made visible; in a style where there are styles."""
        shown = visible(text, "\n\t")
        if not self.is_terminal or self.color_system is None:
            return shown
        own = style.without_color if self.no_color else style
        return own.render(shown, color_system=COLOR_SYSTEMS[self.color_system])

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of what is to be printed, their texts visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text, "\n"))
