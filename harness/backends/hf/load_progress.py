"""The loading of a model, as the progress display has it."""

from __future__ import annotations

from harness.progress import Progress


class LoadProgress:
    """Reports the steps of `models.load.load`, each a fraction that is done, as stages in percent."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._label = ""
        self._percent = 0

    def __call__(self, what: str, fraction: float) -> None:
        """Report that a step is done to a fraction."""
        if self._label != what:
            self._label, self._percent = what, 0
            self._progress.stage(what, 100, "%")
        percent = round(100 * fraction)
        self._progress.advance(percent - self._percent)
        self._percent = percent
