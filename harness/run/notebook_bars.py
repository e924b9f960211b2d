"""Progress bars in a cell of a notebook: one output that is replaced as they move; no widgets are needed."""

from __future__ import annotations

import time
from io import StringIO
from typing import Any

from rich.progress import Progress, TaskID

from harness.report.console import SafeConsole

REFRESH_S = 0.25
"""The output is replaced no more often than this."""
_WIDTH = 110
_FORMAT = '<pre style="line-height: 1.3; margin: 0; font-size: 12px">{code}</pre>'


class NotebookBars(Progress):
    """rich's bars, drawn as HTML; they disappear at the end."""

    def start(self) -> None:
        """Make the output."""
        from IPython.display import HTML, display

        self._last = 0.0
        self._html = HTML
        self._output: Any = display(HTML(""), display_id=True)

    def stop(self) -> None:
        """Empty the output."""
        if self._output is not None:
            self._output.update(self._html(""))

    def refresh(self) -> None:
        """Draw the bars, unless they were drawn just now."""
        now = time.monotonic()
        output = getattr(self, "_output", None)
        if output is None or now < self._last + REFRESH_S:
            return
        self._last = now
        stream = StringIO()
        console = SafeConsole(into=stream, width=_WIDTH)
        console.print(self.get_renderable())
        output.update(self._html(console.export_html(inline_styles=True, code_format=_FORMAT)))

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Move a bar, and draw it."""
        super().advance(task_id, advance)
        self.refresh()
