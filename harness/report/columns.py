"""The few metrics that stand in a table of a sweep, and how their numbers are told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A metric in a table.

    Attributes:
        key: in metrics.json.
        name: over the column.
        unit: beside the name; empty without one.
        decimals: places after the point.
    """

    key: str
    name: str
    unit: str
    decimals: int

    def tell(self, value: float | None) -> str:
        """The number as it is shown; a dash where there is none."""
        return "–" if value is None else f"{value:,.{self.decimals}f}".replace("-", "−")


COLUMNS = (
    Column("latency/ttft_p50_ms", "TTFT", "ms", 1),
    Column("latency/itl_p50_ms", "ITL", "ms", 2),
    Column("throughput/tokens_per_s", "tok/s", "", 0),
    Column("probability/mean_logprob", "logprob", "", 3),
    Column("text/distinct_2", "dist-2", "", 3),
    Column("text/output_tokens", "tokens", "", 0),
)
"""In this order, in the terminal and at the head of the pages."""


def columns_of(keys: Iterable[str]) -> list[Column]:
    """Those of COLUMNS that were taken at all."""
    known = set(keys)
    return [column for column in COLUMNS if column.key in known]
