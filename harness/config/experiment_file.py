"""An experiment's YAML file, checked before Hydra reads it: its keys, defaults, sweeper.params and cases."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.config.groups import ConfigGroups
from harness.config.overrides import check_cases, check_overrides, of_one_point, unknown_key
from harness.config.schema import SWEEP_KEYS, sections, value_keys
from harness.config.search_path import experiment_file
from harness.config.yaml_file import check_yaml, unreadable
from harness.errors import ConfigError, Mistake

ONLY = "files may set only hydra.mode and hydra.sweeper.params of Hydra's own keys; remove it"


def check_experiments(names: Iterable[str], groups: ConfigGroups) -> list[Mistake]:
    """Return every wrong name in some experiments, and in the ones that they name.

    The key of each mistake begins with the file.
    """
    mistakes: list[Mistake] = []
    waiting = list(names)
    for name in waiting:
        try:
            path = experiment_file(name)
            content = _read(path, name) if path is not None else None
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        if path is None or content is None:
            continue
        prefix = f"experiments/{path.name}: "
        mistakes += _check_package(path, prefix)
        if not isinstance(content.get("defaults") or [], list):
            key = f"{prefix}defaults: {content['defaults']}"
            mistakes.append(Mistake(key, "must be a list, as in `- override /decoding: top_p`"))
        defaults = check_overrides(_defaults(content), groups, prefix)
        mistakes += [*defaults.mistakes, *defaults.repeated, *_check_keys(content, prefix, groups)]
        mistakes += _check_hydra(content, prefix)
        params, wrong = _params(content, prefix, groups)
        swept = check_overrides(params, groups, prefix)
        mistakes += [*wrong, *swept.mistakes, *swept.repeated, *of_one_point(swept, prefix)]
        mistakes += check_cases(content.get("cases"), groups, prefix)
        waiting += [one for one in (*defaults.experiments, *swept.experiments) if one not in waiting]
    return mistakes


def experiment_overrides(name: str) -> list[str]:
    """Return the choices of an experiment's defaults list and the keys of its body, as overrides.

    The file was checked before. Its `params` and `cases` are not included: they are overrides of each job.
    """
    path = experiment_file(name)
    content = _read(path, name) if path else {}
    body = {key: values for key, values in content.items() if key in sections() and isinstance(values, dict)}
    return _defaults(content) + [
        f"{section}.{key}={_as_typed(value)}" for section, keys in body.items() for key, value in keys.items()
    ]


def _read(path: Path, name: str) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    check_yaml(path, f"experiments={name}")
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OmegaConfBaseException, OSError, ValueError, OverflowError) as error:
        raise ConfigError.of(f"experiments={name}", f"{path} {unreadable(error)}") from None
    if not isinstance(content, dict):
        raise ConfigError.of(f"experiments={name}", f"{path} must be a mapping of keys to values")
    return {str(key): value for key, value in content.items()}


def _check_package(path: Path, prefix: str) -> list[Mistake]:
    """Without `# @package _global_` the content would land under the experiment's name and change nothing."""
    head = path.read_text(encoding="utf-8")[:512]
    if any(line.replace(" ", "").startswith("#@package_global_") for line in head.splitlines()):
        return []
    return [Mistake(prefix.rstrip(": "), "must begin with the line `# @package _global_`")]


def _defaults(content: dict[str, Any]) -> list[str]:
    """`- override /decoding: top_p` as `decoding=top_p`; Hydra's own groups are left to Hydra."""
    found = []
    defaults = content.get("defaults")
    for entry in defaults if isinstance(defaults, list) else []:
        for key, value in entry.items() if isinstance(entry, dict) else []:
            group = str(key).split()[-1].lstrip("/")
            if "@" not in group and not group.startswith("hydra"):
                found.append(f"{group}={_as_typed(value)}")
    return found


def _check_keys(content: dict[str, Any], prefix: str, groups: ConfigGroups) -> list[Mistake]:
    """The unknown keys of the file's body; values are checked once they are composed."""
    mistakes = []
    for section, values in content.items():
        if section in ("hydra", "defaults", *SWEEP_KEYS):
            continue
        if section not in sections():
            mistakes.append(unknown_key(section, f"{prefix}{section}", groups))
        elif not isinstance(values, dict):
            cure = f"a choice belongs in the defaults list: `- override /{section}: {_as_typed(values)}`"
            mistakes.append(Mistake(f"{prefix}{section}: {_as_typed(values)}", cure))
        else:
            for key, value in values.items():
                if (dotted := f"{section}.{key}") not in value_keys():
                    mistakes.append(unknown_key(dotted, f"{prefix}{dotted}={_as_typed(value)}", groups))
    return mistakes


def _check_hydra(content: dict[str, Any], prefix: str) -> list[Mistake]:
    """What the file sets of Hydra's own but the mode and the params of the sweep, in its body or defaults."""
    hydra, defaults = content.get("hydra"), content.get("defaults")
    entries = defaults if isinstance(defaults, list) else []
    keys = [str(key) for entry in entries if isinstance(entry, dict) for key in entry]
    wrong = [key for key in keys if key.split()[-1].lstrip("/").startswith("hydra")]
    for key, value in (
        hydra.items() if isinstance(hydra, dict) else [("", hydra)] if hydra is not None else []
    ):
        inner = value if key == "sweeper" and isinstance(value, dict) else {"": value}
        dotted = (f"hydra.{key}.{name}".rstrip(".") for name in inner)
        wrong += [one for one in dotted if one not in ("hydra.mode", "hydra.sweeper.params")]
    return [Mistake(f"{prefix}{key}", ONLY) for key in wrong]


def _params(content: dict[str, Any], prefix: str, groups: ConfigGroups) -> tuple[list[str], list[Mistake]]:
    """`hydra.sweeper.params`, the product of the sweep, as overrides; and what is wrong with its form."""
    params: Any = content
    for key in ("hydra", "sweeper", "params"):
        params = params.get(key) if isinstance(params, dict) else None
    if params is None:
        return [], []
    if not isinstance(params, dict):
        key = f"{prefix}hydra.sweeper.params"
        return [], [Mistake(key, "must be a mapping, as in `decoding: greedy,top_p`")]
    lists = {key: value for key, value in params.items() if isinstance(value, list) and key in groups.choices}
    cure = "write the choices as one string: `{}: {}`"
    mistakes = [
        Mistake(f"{prefix}{key}: {value}", cure.format(key, ",".join(map(str, value))))
        for key, value in lists.items()
    ]
    return [f"{key}={_as_typed(value)}" for key, value in params.items() if key not in lists], mistakes


def _as_typed(value: Any) -> str:
    """A YAML value as it would be typed on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
