"""Rich's console, for text of any kind."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from harness.terminal import visible


class SafeConsole(Console):
    """A console on which text is only text: no markup, no emoji codes, hidden characters become marks.

    Styles and the control codes of progress bars are rich's own and stay.
    """

    def __init__(self, stderr: bool = False, highlight: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        # Behind a VisibleStream, which would mark rich's own escape sequences.
        super().__init__(
            file=getattr(stream, "behind", stream), markup=False, emoji=False, highlight=highlight
        )

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of what is to be printed, their texts visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text, "\n"))
