"""The links to a sweep in the MLflow UI on the terminal: short where it opens links, else URLs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from harness.report.console import SafeConsole
from harness.store.mlflow_uri import is_server
from harness.store.sweeps import Sweep
from harness.terminal import visible
from harness.tracking.links import MAX_SIDE_BY_SIDE, Link

SHORT = ("page", "runs")
"""The links that are printed as URLs where a terminal does not open links."""


def print_links(
    console: SafeConsole, sweep: Sweep, links: Sequence[Link], uri: str, *, served: bool = False
) -> None:
    """Print how to start the UI, unless it is `served`, and the links to the sweep; nothing without links."""
    if not links:
        return
    start = "" if served or is_server(uri) else "harness ui"
    if console.shows_links:
        names = (console.link(link.name, link.url) for link in links)
        line = Text("  ").join(Text.assemble(name, style="underline") for name in names)
        how = Text.assemble((start, "bold"), "   # then open ") if start else Text("MLflow  ")
        console.print(Text.assemble(how, " ", line), soft_wrap=True)
    else:
        if start:
            console.print(Text(f"{start}   # then open"))
        # The others are an unreadable search each; they are a click away from the runs.
        for link in (link for link in links if link.name in SHORT):
            console.print(Text(visible(f"{link.name:<5} {visible(link.url)}")), soft_wrap=True)
    shown = sum(point.status in ("done", "reused") for point in sweep.points)
    if shown > MAX_SIDE_BY_SIDE:
        text = f"MLflow puts {MAX_SIDE_BY_SIDE} runs side by side: the baseline and the most similar ones; "
        console.print(Text(f"{text}compare.html shows all {shown}."), style="dim")
