"""The texts of `harness --help` and `harness help NAME`: commands, groups with their choices, and keys."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.analysis.finish_reasons import FINISHES
from harness.analysis.goal import ALIAS
from harness.analysis.metric_catalog import METRICS, Metric
from harness.cli.command_help import describe_command
from harness.cli.help_rows import row
from harness.cli.launcher_words import launcher_help
from harness.cli.plugin_help import plugin_help, plugin_metrics, plugin_names, plugin_rows
from harness.config import schema
from harness.config.groups import ConfigGroups
from harness.config.launcher_section import GROUP as LAUNCHER
from harness.config.plugins import broken_conf
from harness.config.search_path import (
    EXPERIMENTS,
    built_in,
    comments,
    conf_folder,
    experiment_file,
    first_comment,
)
from harness.config.selector_names import DESCRIPTIONS as SELECTORS
from harness.config.suggest import did_you_mean
from harness.config.unsupported_keys import UNSUPPORTED_KEYS
from harness.config.validation import describe as values_of
from harness.config.validation import format_value
from harness.errors import ConfigError
from harness.store.column_meanings import columns_named

_FINISH = (
    "column of the table: how many outputs ended with EOS (eos), reached max_new_tokens (length, len), or "
    "met one of generation.stop_strings (stop), met EOS or a stop string at a server that does not tell "
    "which (ended, end), or were cut off by an error (error, err); `eos/len` counts in this order, as in 7/13"
)
OF_THE_SWEEP = {
    "name": 'text; the sweep\'s name, as in name="My study"; left out: made of what varies',
    "cases": "a list of override lists; points beside the product, each with what it does not name of it",
    "expect": "a list of mappings; what a run must show (docs/guides/expectations.md)",
}
"""Keys that are about the sweep as a whole, and what each is."""

_KINDS = (
    "basic",
    "guidance",
    "temperature",
    "truncation",
    "adaptive",
    "penalty",
    "structure",
    "watermark",
    "search",
    "beams",
    "processor",
    "defaults of other tools",
)
"""The kinds of strategies in the order in which they are listed."""

_TEMPLATE = """\
harness: compare LLM decoding strategies.

  harness [overrides]                        run one point
  harness -m decoding=greedy,top_p ...       run a sweep, every combination
  harness experiments=demo                   run a named sweep

Commands (`harness plan --help` tells more):
{commands}

Choices, as in `decoding=top_p` (`harness help decoding` describes them, `harness help top_p` one):
{groups}

Keys, as in `generation.max_new_tokens=100`, belong to one of these; `name="..."` names the sweep:
{sections}
--config-dir FOLDER adds your own choices; --cfg job shows the composed config; --hydra-help lists more flags.
hydra/launcher=local_gpus runs on all GPUs here. Completion in bash: eval "$(harness -sc install=bash)"

Exit status: 0 done; 1 some points failed, or an expectation was missed; 2 the command or config is wrong;
130, 143 interrupted."""


def overview(groups: ConfigGroups, commands: Mapping[str, str]) -> str:
    """Return the text of `harness --help`.

    Args:
        groups: the groups and their choices.
        commands: the usage of each command.
    """
    return _TEMPLATE.format(
        commands="\n".join(row(command, usage) for command, usage in commands.items()),
        groups="\n".join(row(group, ", ".join(_shortened(some))) for group, some in groups.choices.items()),
        sections="\n".join(textwrap.wrap(", ".join(schema.sections()), 105)),
    )


def _shortened(choices: Sequence[str]) -> list[str]:
    """Return the choices, those of a library as one: `zoo_...`."""
    shown = ("zoo_..." if name.startswith("zoo_") else name for name in choices)
    return list(dict.fromkeys(shown))


def describe(name: str, groups: ConfigGroups, commands: Mapping[str, str]) -> str:
    """Return what there is of a name: a group, a command, choices, keys, metrics.

    Args:
        name: such as `decoding`, `top_p`, `decoding.top_p`, `plan`, `chrf`.
        groups: the groups and their choices.
        commands: the usage of each command.

    Raises:
        ConfigError: there is nothing of this name.
    """
    group, equals, choice = name.partition("=")
    name = choice if equals and group in (*groups.choices, LAUNCHER) else name
    if name in groups.choices or name in schema.sections():
        return "\n\n".join([_describe_group(name, groups), *_metrics(name)])
    if (of_launchers := launcher_help(name)) is not None:
        return of_launchers
    if name in commands:
        return describe_command(name, commands[name])
    if name == "metrics":
        return _all_metrics()
    known_as = (_choices(name, groups), _keys(name, groups), _metrics(name), _others(name), plugin_help(name))
    if found := [line for lines in known_as for line in lines]:
        return "\n".join(found).strip("\n")
    last = name.rpartition(".")[2]
    if last in UNSUPPORTED_KEYS and last != "name":
        return row(name, f"no such key; {UNSUPPORTED_KEYS[last]}", 38)
    all_groups = dict.fromkeys([*groups.choices, *schema.sections()])
    choices = [choice for some in groups.choices.values() for choice in some]
    known = [
        *commands,
        *all_groups,
        *choices,
        *schema.value_keys(),
        *OF_THE_SWEEP,
        *SELECTORS,
        "metrics",
        *(m.key for m in METRICS),
        *plugin_names(),
    ]
    hint = did_you_mean(name, dict.fromkeys(known)) or f" (groups: {', '.join(all_groups)})"
    raise ConfigError.of(name, f"no group, choice, key, metric or command of this name{hint}{broken_conf()}")


def _describe_group(name: str, groups: ConfigGroups) -> str:
    """What each choice of a group is for, and what values each of its keys takes."""
    lines = []
    for kind, choices in by_kind(name, groups).items():
        lines += ["", f"{kind.capitalize()}:"] if kind else []
        lines += [_choice_row(name, choice, groups, 32) for choice in choices]
    if name in schema.sections():
        lines += ["", *(_key_row(f"{name}.{key}") for key in schema.section_fields(name))]
    if of_plugins := plugin_rows(name):
        lines += ["", "Of plug-ins (`harness help NAME` tells what each does):", *of_plugins]
    return "\n".join(lines).strip("\n")


def by_kind(group: str, groups: ConfigGroups) -> dict[str, list[str]]:
    """The choices of a group by the kind that the comments of their files name; a user's own come last."""
    found: dict[str, list[str]] = {}
    for choice in groups.choices.get(group, []):
        found.setdefault(_kind(group, choice, groups), []).append(choice)
    if set(found) == {""}:
        return found
    order = sorted(found, key=lambda kind: _KINDS.index(kind) if kind in _KINDS else len(_KINDS))
    return {kind or "others": found[kind] for kind in order}


def _kind(group: str, choice: str, groups: ConfigGroups) -> str:
    path = _file(group, choice, groups)
    texts = comments(path) if path else []
    return next((text.removeprefix("Kind: ") for text in texts if text.startswith("Kind: ")), "")


def _choices(name: str, groups: ConfigGroups) -> Iterator[str]:
    """The choices of this name, each with what its file sets."""
    for group, choices in groups.choices.items():
        if name in choices:
            yield _choice_row(group, name, groups)
            own = groups.own_values(group, name) if group in schema.sections() else None
            fields = schema.section_fields(group) if own else {}
            values = [
                f"{key}: {format_value(own[key])}"
                for key in fields
                if own and own[key] != fields[key].default
            ]
            if values:
                yield row("", f"sets {', '.join(values)}", 38)
            if path := _file(group, name, groups):
                about = [text for text in comments(path)[1:] if not text.startswith("Kind: ")]
                yield from (row("", text, 38) for text in about)
                yield row("", f"in {_shown(path, groups)}", 38)


def _keys(name: str, groups: ConfigGroups) -> Iterator[str]:
    """The keys of this name, dotted or their last component, each with the choices that set it."""
    if name in OF_THE_SWEEP:
        yield row(name, OF_THE_SWEEP[name], 38)
    for key in schema.value_keys():
        section, _, last = key.partition(".")
        if name not in (key, last):
            continue
        yield _key_row(key)
        default = schema.section_fields(section)[last].default
        own = {choice: groups.own_values(section, choice) for choice in groups.choices.get(section, [])}
        setting = [
            f"{section}={choice}" for choice, values in own.items() if values and values[last] != default
        ]
        setting.sort(key=lambda text: text != f"{section}={last}")
        if setting and section not in ("model", "prompts"):
            yield row("", f"set by {', '.join(setting)}", 38)


def _metrics(name: str) -> Iterator[str]:
    """The metrics of this name: a key, of metrics.json or MLflow's, its last part, or as it is displayed."""
    wanted = " ".join(name.lower().split())
    for metric in METRICS:
        if wanted in (*_keys_of(metric), metric.key.rpartition("/")[2], metric.name.lower()):
            better = f"; {metric.better} is better" if metric.better else ""
            unit = f", {metric.unit}" if metric.unit and metric.unit not in metric.description else ""
            yield row(metric.key, f"metric {metric.name}: {metric.description}{unit}{better}", 38)
            if in_mlflow := _keys_of(metric)[1:]:
                yield row("", f"in MLflow {in_mlflow[0]}", 38)


def _keys_of(metric: Metric) -> list[str]:
    """A metric's key, and the one that MLflow has instead."""
    in_mlflow, section = ALIAS
    renamed = in_mlflow + metric.key.removeprefix(section) if metric.key.startswith(section) else ""
    return [metric.key, *([renamed] if renamed else [])]


def _others(name: str) -> Iterator[str]:
    """Ways to choose among samples, heads of the terminal's table that are no metric's, columns of tables."""
    wanted = name.lower()
    yield from (row(f"compare.select=[{way}]", text, 38) for way, text in SELECTORS.items() if way == wanted)
    if wanted in ("finish", *(word for words in FINISHES.values() for word in words), "eos/len"):
        yield row("finish", _FINISH, 38)
    for table, means in columns_named(name):
        yield row(name, f"column of {table}.parquet: {means}", 38)


def _all_metrics() -> str:
    """Every metric: its key, its short name, and what it measures."""
    lines = [f"  {'key':<32} {'shown as':<18} measures"]
    for metric in METRICS:
        arrow = f"; {metric.better} is better" if metric.better else ""
        indent = " " * 54
        text = textwrap.wrap(f"{metric.description}{arrow}", 108 - len(indent))
        lines += [f"  {metric.key:<32} {metric.name:<18} {text[0]}", *(indent + more for more in text[1:])]
    for key, shown_as, origin in plugin_metrics():
        lines.append(f"  {key:<32} {shown_as:<18} {origin}")
    mlflow, section = ALIAS
    note = f"MLflow has {section}NAME as {mlflow}NAME; compare.goal takes both. Your own are own/NAME."
    return "\n".join([*lines, "", note])


def _shown(path: Path, groups: ConfigGroups) -> str:
    """A file of a choice or an experiment, built in, of a plug-in or the user's."""
    for folder in (conf_folder(), built_in(EXPERIMENTS)):
        if path.is_relative_to(folder):
            return f"{folder.name}/{path.relative_to(folder)}, built in"
    owner = next((plugin for plugin, folder in groups.plugins if path.is_relative_to(folder)), None)
    return str(path) if owner is None else f"{path}, of {owner}"


def _choice_row(group: str, choice: str, groups: ConfigGroups, width: int = 38) -> str:
    path = _file(group, choice, groups)
    return row(f"{group}={choice}", first_comment(path).partition(" Run: ")[0] if path else "", width)


def _file(group: str, choice: str, groups: ConfigGroups) -> Path | None:
    return experiment_file(choice) if group == EXPERIMENTS else groups.file(group, choice)


def _key_row(key: str) -> str:
    section, _, name = key.partition(".")
    info = schema.section_fields(section)[name]
    default = "" if info.is_required() or info.default is None else f" [{format_value(info.default)}]"
    meaning = f"; {info.description}" if info.description else ""
    return row(key, f"{values_of(section, name)}{default}{meaning}", 38)
