"""Every reference page by its file name."""

from __future__ import annotations

from harness.config.groups import ConfigGroups
from tools.reference.api_page import api_page
from tools.reference.command_page import command_page
from tools.reference.config_pages import config_page, decoding_page
from tools.reference.file_page import file_page
from tools.reference.machine_page import machine_page
from tools.reference.metric_page import metric_page
from tools.reference.strategy_page import strategy_page
from tools.reference.table_page import table_page

NOTE = "<!-- Written from the code: change the code, then run `make reference`. -->"


def pages() -> dict[str, str]:
    """Return the text of every page."""
    groups = ConfigGroups()
    texts = {
        "commands.md": command_page(),
        "config.md": config_page(groups),
        "decoding.md": decoding_page(groups),
        "strategies.md": strategy_page(groups),
        "metrics.md": metric_page(),
        "tables.md": table_page(),
        "files.md": file_page(),
        "environment.md": machine_page(),
        "python.md": api_page(),
    }
    return {name: f"{text.strip()}\n\n{NOTE}\n" for name, text in texts.items()}
