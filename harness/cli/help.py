"""The texts of `harness --help` and `harness help GROUP`: commands, groups with their choices, and keys."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from harness.config import schema
from harness.config.groups import ConfigGroups
from harness.config.search_path import EXPERIMENTS, experiment_file, first_comment
from harness.config.suggest import did_you_mean
from harness.config.validation import describe, format_value
from harness.errors import ConfigError

_TEMPLATE = """\
harness: compare LLM decoding strategies.

  harness [overrides]                        run one point
  harness -m decoding=greedy,top_p ...       run a sweep, every combination
  harness experiments=demo                   run a named sweep

Commands:
{commands}

Choices, as in `decoding=top_p` (`harness help GROUP` describes them):
{groups}

Keys, as in `generation.max_new_tokens=100`, belong to one of these:
{sections}
--config-dir FOLDER adds your own choices; --cfg job shows the composed config; --hydra-help lists more flags.
Completion in bash: eval "$(harness -sc install=bash)"

Exit status: 0 done; 1 some points failed, or an expectation was missed; 2 the command or config is wrong;
130, 143 interrupted."""


def overview(groups: ConfigGroups, commands: Mapping[str, str]) -> str:
    """Return the text of `harness --help`.

    Args:
        groups: the groups and their choices.
        commands: the usage of each command.
    """
    return _TEMPLATE.format(
        commands="\n".join(_row(command, usage) for command, usage in commands.items()),
        groups="\n".join(_row(group, ", ".join(choices)) for group, choices in groups.choices.items()),
        sections="\n".join(textwrap.wrap(", ".join(schema.sections()), 105)),
    )


def describe_group(name: str, groups: ConfigGroups) -> str:
    """Return what each choice of a group is for, and what values each of its keys takes.

    Raises:
        ConfigError: there is no such group.
    """
    known = list(dict.fromkeys([*groups.choices, *schema.sections()]))
    if name not in known:
        raise ConfigError.of(name, f"no such group{did_you_mean(name, known)} (groups: {', '.join(known)})")
    lines = []
    for choice in groups.choices.get(name, []):
        path = experiment_file(choice) if name == EXPERIMENTS else groups.file(name, choice)
        lines.append(_row(f"{name}={choice}", first_comment(path).partition(" Run: ")[0] if path else "", 38))
    if name in schema.sections():
        lines.append("")
        for key, info in schema.section_fields(name).items():
            default = "" if info.is_required() or info.default is None else f" [{format_value(info.default)}]"
            meaning = f"; {info.description}" if info.description else ""
            lines.append(_row(f"{name}.{key}", f"{describe(name, key)}{default}{meaning}", 38))
    return "\n".join(lines).strip("\n")


def _row(left: str, right: str, width: int = 14) -> str:
    """Two columns; what does not fit continues under the second one."""
    indent = " " * (width + 3)
    if len(left) > width:
        return f"  {left}\n" + textwrap.indent(textwrap.fill(right, 105 - len(indent)), indent)
    lines = textwrap.wrap(right, 105 - len(indent)) or [""]
    return "\n".join([f"  {left:<{width}} {lines[0]}".rstrip(), *(indent + line for line in lines[1:])])
