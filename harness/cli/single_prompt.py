"""The one prompt of `harness generate` and `harness inspect`, as a row that a sweep would have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.cli.prompt_words import PromptArguments
from harness.config.point import Prompts
from harness.config.suggest import did_you_mean
from harness.errors import ConfigError
from harness.prompts.source import PromptRow, read_rows


def single_prompt(prompts: Prompts, arguments: PromptArguments) -> Prompts:
    """Return a prompt set with the one row that is asked for; template, system and chat stay the set's.

    The row of the set with what is typed of text and id. A text that no row has, or that is typed without
    naming a set, is a new row: as in a sweep, its id, on which the random numbers depend, is made of the text
    unless it is typed too.

    Raises:
        ConfigError: the set cannot be read, or has no row of this id.
    """
    row = None
    if arguments.names_a_set or not arguments.prompt:
        row = _row(read_rows(prompts.model_copy(update={"limit": None})), arguments)
    item: dict[str, Any] = {"prompt": arguments.prompt}
    if row is not None:
        text = {"prompt": row.prompt} if row.messages is None else {"messages": list(row.messages)}
        item = {"id": row.id, **text, **row.fields}
    if arguments.prompt_id:
        item["id"] = arguments.prompt_id
    return prompts.model_copy(update={"items": (item,), "file": None, "limit": None})


def _row(rows: Sequence[PromptRow], arguments: PromptArguments) -> PromptRow | None:
    if arguments.prompt:
        same = (row for row in rows if row.prompt == arguments.prompt)
        return next((row for row in same if arguments.prompt_id in ("", row.id)), None)
    for row in rows:
        if row.id == arguments.prompt_id:
            return row
    ids = [row.id for row in rows]
    hint = did_you_mean(arguments.prompt_id, ids)
    shown = ", ".join(ids[:8]) + (", ..." if len(ids) > 8 else "")
    raise ConfigError.of(
        f"prompt_id={arguments.prompt_id}",
        f"the prompts have no row of this id{hint} (ids: {shown}); or give a text: prompt=...",
    )
