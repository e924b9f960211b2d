"""The result of `harness.replay`: stored samples under another decoding."""

from __future__ import annotations

from typing import Any

from harness.api.frame import Frame
from harness.api.notebook_html import cell, note
from harness.cli.replay import Replay, replay_json


class ReplayView:
    """What another decoding would have made of a point's samples.

    Attributes:
        point_id: the point's address.
        made_by, replayed_as: both decodings, without what is neutral.
        summary: counts over all samples: `samples`, `same`, `changed`, `undecided`, `impossible`, ...
    """

    def __init__(self, found: Replay) -> None:
        values = replay_json(found)
        self.point_id: str = values["point"]
        self.made_by: dict[str, Any] = values["made_by"]
        self.replayed_as: dict[str, Any] = values["replayed_as"]
        self.summary: dict[str, Any] = dict(values["summary"])
        self._rows: list[dict[str, Any]] = values["samples"]

    def samples(self) -> Frame:
        """Return a row a sample: how many steps are the same, where and why it changes or is undecided."""
        import pyarrow as pa

        names = dict.fromkeys(name for row in self._rows for name in row)
        rows = [{name: _plain(row.get(name)) for name in names} for row in self._rows]
        return Frame(pa.Table.from_pylist(rows))

    def __repr__(self) -> str:
        known = ", ".join(
            f"{self.summary[name]} {name}" for name in ("samples", "same", "changed", "undecided")
        )
        return f"<ReplayView of {self.point_id[:12]}: {known}>"

    def _repr_html_(self) -> str:
        """Return the summary and the samples."""
        return cell(note(repr(self)[1:-1])) + self.samples()._repr_html_()


def _plain(value: Any) -> Any:
    """Return a value as Arrow takes it: bounds as lists, infinities as they are."""
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
