"""`harness --help`: the words, the groups with their choices, and where to read on."""

from __future__ import annotations

import textwrap

from harness.config import schema
from harness.config.places import experiment_file, first_comment
from harness.config.search_path import EXPERIMENTS, Catalog
from harness.config.suggest import did_you_mean
from harness.config.validation import describe, shown
from harness.errors import ConfigError

WORDS = {
    "plan": "[overrides]  points, groups, loads, what is done already, memory and tokens to come",
    "check": "[overrides]  compose and check only; every mistake in one line",
    "inspect": 'model=M prompt="..." [steps=N] [top_k=K] [chat=true] [--json]  tokens and next-token table',
    "replay": "POINT decoding=... [--json]  stored samples under another decoding, without the model",
    "report": "[SWEEP]  write the comparison again from the store",
    "sync": "[SWEEP]  tell MLflow what it missed",
    "ui": "[--port N]  open the MLflow UI on this project's store",
    "doctor": "what this machine offers: devices, memory, versions, quantizations",
    "help": "[GROUP]  this text; or a group's choices and keys",
}

_TEMPLATE = """\
harness: find out how an LLM should decode.

  harness [overrides]                        run one point
  harness -m decoding=greedy,top_p ...       run a sweep, every combination
  harness experiments=demo                   run a named sweep

Words:
{words}

Choices, as in `decoding=top_p` (`harness help GROUP` tells more):
{groups}

Keys, as in `generation.max_new_tokens=100`, are those of
{parts}.
--config-dir FOLDER adds choices of your own; --cfg job shows the composed config; --hydra-help tells more.
Completion in bash: eval "$(harness -sc install=bash)"

Exit status: 0 done; 1 some points failed, or an expectation was missed; 2 the command or config is wrong;
130, 143 interrupted."""


def overview(catalog: Catalog) -> str:
    """The whole of `harness --help`."""
    words = "\n".join(_row(word, text) for word, text in WORDS.items())
    groups = "\n".join(_row(group, ", ".join(choices)) for group, choices in catalog.groups.items())
    return _TEMPLATE.format(words=words, groups=groups, parts=", ".join(schema.parts()))


def about(name: str, catalog: Catalog) -> str:
    """The choices of a group with what each is for, and its keys with what each takes.

    Raises:
        ConfigError: there is no such group.
    """
    known = [*catalog.groups, *(part for part in schema.parts() if part not in catalog.groups)]
    if name not in known:
        raise ConfigError.of(name, f"no such group{did_you_mean(name, known)} (groups: {', '.join(known)})")
    lines = []
    for choice in catalog.groups.get(name, []):
        path = experiment_file(choice) if name == EXPERIMENTS else catalog.file(name, choice)
        lines.append(_row(f"{name}={choice}", first_comment(path).partition(" Run: ")[0] if path else "", 38))
    if name in schema.parts():
        lines.append("")
        for key, info in schema.part_fields(name).items():
            default = "" if info.is_required() or info.default is None else f" [{shown(info.default)}]"
            meaning = f"; {info.description}" if info.description else ""
            lines.append(_row(f"{name}.{key}", f"{describe(name, key)}{default}{meaning}", 38))
    return "\n".join(lines).strip("\n")


def _row(left: str, right: str, width: int = 14) -> str:
    """Two columns; what does not fit goes on under the second one."""
    indent = " " * (width + 3)
    if len(left) > width:
        return f"  {left}\n" + textwrap.indent(textwrap.fill(right, 105 - len(indent)), indent)
    lines = textwrap.wrap(right, 105 - len(indent)) or [""]
    return "\n".join([f"  {left:<{width}} {lines[0]}".rstrip(), *(indent + line for line in lines[1:])])
