"""The page of the commands: the texts of `harness COMMAND --help`, as Markdown."""

from __future__ import annotations

import re

from harness.cli.command_help import DETAILS
from harness.cli.main import COMMANDS
from tools.reference.markdown import code, prose, table

_HEAD = """\
# Commands

A bare first word is a command of the harness; everything else is [Hydra's](https://hydra.cc) override
grammar. A run itself has no word:

| command | does |
| --- | --- |
| `harness [overrides]` | runs one point |
| `harness -m key=a,b ...` | runs a sweep: every combination, one load a model |
| `harness experiments=NAME` | runs a named sweep, from `experiments/NAME.yaml` |
"""

_FLAGS = """\
## Flags

| flag | does |
| --- | --- |
| `-m`, `--multirun` | several values of a key make a sweep |
| `--config-dir FOLDER` | adds your own choices: `FOLDER/decoding/warm.yaml` is `decoding=warm` |
| `--cfg job` | shows the composed config, and runs nothing |
| `--help`, `COMMAND --help` | all commands; one of them |
| `--hydra-help` | Hydra's other flags |
| `--version` | the versions of the harness and of Hydra |

Completion in bash: `eval "$(harness -sc install=bash)"`.

Exit statuses are [on a page of their own](environment.md#exit-status).
"""


def command_page() -> str:
    """Return the page."""
    rows = []
    for name, command in COMMANDS.items():
        arguments, _, does = command.usage.rpartition("  ")
        link = f"[{code(f'harness {name} {arguments.strip()}'.rstrip())}](#{name})"
        rows.append(f"| {link} | {prose(does)} |".replace("\n", " "))
    sections = [_section(name) for name in COMMANDS]
    return "\n\n".join([_HEAD + "\n".join(rows), *sections, _FLAGS])


def _section(name: str) -> str:
    arguments, _, _ = COMMANDS[name].usage.rpartition("  ")
    usage = f"```text\nharness {name} {arguments.strip()}".rstrip() + "\n```"
    blocks = [_block(text) for text in re.split(r"\n\s*\n", DETAILS[name])]
    return "\n\n".join([f"## {name}", usage, *blocks])


def _block(text: str) -> str:
    """A paragraph, a list of arguments or examples: they are told apart by how they are indented."""
    lines = text.splitlines()
    if not all(line.startswith("  ") for line in lines):
        return prose(" ".join(lines))
    if "harness " in lines[0]:
        return "\n".join(["```bash", *(line.strip() for line in lines), "```"])
    rows: list[list[str]] = []
    for line in lines:
        if re.match(r"  \S", line):
            left, _, right = line.strip().partition("  ")
            rows.append([left, right.strip()])
        else:
            rows[-1][1] += " " + line.strip()
    return table(("argument", "is"), ((code(left), prose(right)) for left, right in rows))
