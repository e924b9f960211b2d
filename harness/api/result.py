"""What a sweep came to: its points, tables, texts, answer and page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.expectations import CheckedExpectation, missed
from harness.api.frame import Frame
from harness.api.notebook_html import PAGE_HEIGHT, Page, cell
from harness.api.result_html import answer_html, failures_html, points_html
from harness.api.sweep_tables import comparison_frame, joined_table, lazy_dataset, summary_frame
from harness.api.text_view import Text
from harness.config.suggest import did_you_mean
from harness.errors import HarnessError
from harness.report.point_names import short_names
from harness.report.write import Written, read_results, results_text

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from harness.analysis.point_results import PointResult
    from harness.api.trial import TrialFolder
    from harness.store.sweeps import Sweep


class SweepFailedError(HarnessError):
    """Points of a sweep failed, or did not show what was expected of them.

    Attributes:
        failed: error of each failed point, one line, by label.
        missed: the expectations that were missed.
    """

    def __init__(self, failed: Mapping[str, str], missed: tuple[CheckedExpectation, ...]) -> None:
        self.failed = dict(failed)
        self.missed = missed
        lines = [f"{label}: {error}" for label, error in self.failed.items()]
        super().__init__("\n".join([*lines, *(f"{one.label}: {one.line}" for one in missed)]))


class PointView:
    """One point of a sweep.

    Attributes:
        label: unique in the sweep.
        point_id: its address in the store.
        status: done, reused (it was in the store), failed, planned or interrupted.
        error: one line, of a failed point; else None.
        metrics: finite numbers by `section/name`.
        varied: every key that differs between the points of the sweep, with its value here.
        warnings: what its user should know, one line each.
    """

    def __init__(self, result: PointResult) -> None:
        self._result = result
        point = result.point
        self.label, self.point_id, self.status, self.error = (
            point.label,
            point.point_id,
            point.status,
            point.error,
        )
        self.metrics: dict[str, float] = dict(result.metrics)
        self.varied: dict[str, Any] = dict(point.varied)
        self.warnings = point.warnings

    @property
    def folder(self) -> Path | None:
        """Its folder in the store; None where nothing of it is stored."""
        return None if self._result.stored is None else self._result.stored.folder

    def config(self) -> dict[str, Any]:
        """Return its config, `requested` beside `effective`."""
        return self._stored().config()

    def environment(self) -> dict[str, Any]:
        """Return what it ran on: versions, device, facts of the model."""
        return self._stored().environment()

    def table(self, name: str = "generations", columns: Iterable[str] | None = None) -> Frame:
        """Return one of its tables, `tokens` for example, or some columns of it."""
        return Frame(self._stored().table(name, None if columns is None else list(columns)))

    def text(self, prompt: str | int = 0, sample: int = 0) -> Text:
        """Return one of its texts.

        Args:
            prompt: its id, or its index among the prompts.
            sample: index among the prompt's samples.

        Raises:
            HarnessError: there is none.
        """
        stored, ids = self._stored(), self._result.prompt_ids
        if isinstance(prompt, int):
            if not -len(ids) <= prompt < len(ids):
                raise HarnessError(f"prompt {prompt}: there are {len(ids)}, counted from 0")
            prompt = ids[prompt]
        elif prompt not in ids:
            raise HarnessError(f"no prompt has the id {prompt!r}{did_you_mean(prompt, ids)}")
        where = [("prompt_id", "=", prompt), ("sample", "=", sample)]
        rows = stored.table("generations", where=where).to_pylist()
        if not rows:
            raise HarnessError(f"prompt {prompt!r} has no sample {sample}, counted from 0")
        tokens = stored.table("tokens", where=where) if stored.has("tokens.parquet") else None
        return Text(rows[0], tokens, self.label)

    def _stored(self) -> Any:
        if self._result.stored is None:
            raise HarnessError(
                f"nothing of {self.label} is stored: it is {self.status} ({self.error or 'not run'})"
            )
        return self._result.stored

    def __repr__(self) -> str:
        return f"<{self.label}: {self.status}>"


class Result:
    """A sweep's results, read from the store when they are asked for.

    Args:
        sweep: its record.
        written: its results, where they are known.
        trial: the temporary store that it is in, if it is a trial's.

    Attributes:
        name: as people see it.
        folder: where its plan.json, compare.html and CSV files are.
    """

    def __init__(
        self, sweep: Sweep, written: Written | None = None, trial: TrialFolder | None = None
    ) -> None:
        self._sweep = sweep
        self._known = written
        self._trial = trial  # lives as long as the result
        self.name = sweep.title
        self.folder = sweep.folder

    @cached_property
    def _written(self) -> Written:
        return self._known or read_results(self._sweep)

    @cached_property
    def points(self) -> dict[str, PointView]:
        """The points by label, in the order of the sweep; with `compare.select` also its chosen samples."""
        return {p.point.label: PointView(p) for p in self._written.points}

    @property
    def failed(self) -> dict[str, PointView]:
        """Those that failed; each has its `error`."""
        return {label: point for label, point in self.points.items() if point.status == "failed"}

    @property
    def expectations(self) -> tuple[CheckedExpectation, ...]:
        """What `expect` asked of each point and prompt, whether it `passed`, and what was `got`."""
        return self._written.checked

    @property
    def answer(self) -> str:
        """What the sweep says about its question, a sentence a line; empty when no point is complete."""
        found = self._written.comparison.answer
        points = [p.point for p in self._written.points]
        names = dict(zip((p.label for p in points), short_names(points), strict=True))
        return "\n".join(f"{one.title}: {one.text(names)}" for one in found.sentences) if found else ""

    def raise_for_failures(self) -> None:
        """Raise where a point failed or an expectation was missed.

        Raises:
            SweepFailedError: with all of them.
        """
        failed = {label: point.error or "failed" for label, point in self.failed.items()}
        misses = tuple(missed(self.expectations))
        if failed or misses:
            raise SweepFailedError(failed, misses)

    def summary(self) -> Frame:
        """Return a row a point: choices, varied keys, status, error, and every metric as `section/name`."""
        return summary_frame(self._written.points)

    def comparison(self) -> Frame:
        """Return a row a point and metric: value, 95% interval, difference from the baseline, p-value."""
        return comparison_frame(self._written.points, self._written.comparison)

    def generations(self, columns: Iterable[str] | None = None) -> Frame:
        """Return a row a sample of every point: prompt, output, finish_reason, mean_logprob, metrics."""
        return joined_table(self._written.points, "generations", columns)

    def tokens(self, columns: Iterable[str] | None = None) -> Frame:
        """Return a row a generated token of every point: token, logprob (nats), rank, entropy, alternatives.

        For large sweeps name the columns, or take `lazy()`.
        """
        return joined_table(self._written.points, "tokens", columns)

    def timing(self) -> Frame:
        """Return a row a timed repetition of every point: ttft_ms, decode_ms, output_tokens, itl_ms."""
        return joined_table(self._written.points, "timing")

    def lazy(self, table: str = "tokens") -> ds.Dataset:
        """Return a table of every point as a `pyarrow.dataset`: nothing is read before it is asked for.

        Raises:
            HarnessError: no point has this table.
        """
        return lazy_dataset(self._written.points, table)

    def text(self, point: str | int = 0, prompt: str | int = 0, sample: int = 0) -> Text:
        """Return one generated text, which a notebook shows with its tokens.

        Args:
            point: its label, or its index.
            prompt: its id, or its index.
            sample: index among the prompt's samples.

        Raises:
            HarnessError: there is none.
        """
        return self._point(point).text(prompt, sample)

    def page(self, height: int = PAGE_HEIGHT) -> Page:
        """Return the comparison, compare.html, which a notebook shows in the cell.

        Args:
            height: of the cell, in pixels.

        Raises:
            HarnessError: it was not written, or is gone.
        """
        path = self.folder / "compare.html"
        if not path.is_file():
            raise HarnessError(f"{path} not found; `harness report {self.folder.name}` writes it")
        return Page(path.read_text(encoding="utf-8"), height)

    def _point(self, point: str | int) -> PointView:
        labels = list(self.points)
        if isinstance(point, int):
            if not -len(labels) <= point < len(labels):
                raise HarnessError(f"point {point}: there are {len(labels)}, counted from 0")
            point = labels[point]
        if point not in self.points:
            raise HarnessError(f"no point has the label {point!r}{did_you_mean(point, labels)}")
        return self.points[point]

    def __getitem__(self, point: str | int) -> PointView:
        """Return a point by its label or index."""
        return self._point(point)

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        statuses = [point.status for point in self.points.values()]
        counts = ", ".join(f"{statuses.count(one)} {one}" for one in dict.fromkeys(statuses))
        return f"<Result {self.name!r}: {len(statuses)} points ({counts}) in {self.folder}>"

    def __str__(self) -> str:
        """Return the table and the answer, as the command line prints them."""
        return results_text(self._written)

    def _repr_html_(self) -> str:
        """Return the answer and the table."""
        written = self._written
        parts = (
            answer_html(written),
            points_html(written),
            failures_html(written, missed(self.expectations)),
        )
        return cell(*parts)
