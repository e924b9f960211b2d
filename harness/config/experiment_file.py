"""An experiment's YAML file, checked before Hydra reads it: its keys, defaults, sweeper.params and cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.config.overrides import check_overrides, wrong_key
from harness.config.places import experiment_file
from harness.config.schema import SWEEP_KEYS, parts, value_keys
from harness.config.search_path import Catalog
from harness.errors import ConfigError, Mistake


def check_experiment(name: str, catalog: Catalog) -> list[Mistake]:
    """Every wrong name in an experiment; each mistake's key begins with the file."""
    try:
        path = experiment_file(name)
        if path is None:
            return []
        content = _read(path, name)
    except ConfigError as error:
        return list(error.mistakes)
    where = f"experiments/{path.name}: "
    mistakes = _globality(path, where)
    mistakes += check_overrides(_chosen(content.get("defaults")), catalog, where).mistakes
    mistakes += _wrong_keys(content, where, catalog)
    mistakes += _wrong_params(content, where, catalog)
    mistakes += wrong_cases(content.get("cases"), where, catalog)
    return mistakes


def said_in(name: str) -> list[str]:
    """The choices of an experiment's defaults list and the keys of its body, as overrides; values in short.

    Its file was checked before. A sweep's `params` and `cases` are not among them: they are said job by job.
    """
    path = experiment_file(name)
    content = _read(path, name) if path else {}
    bodies = {part: keys for part, keys in content.items() if part in parts() and isinstance(keys, dict)}
    keys = [f"{part}.{key}={_typed(value)}" for part, body in bodies.items() for key, value in body.items()]
    return _chosen(content.get("defaults")) + keys


def _read(path: Path, name: str) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException, OSError) as error:
        said = " ".join(str(error).split())
        raise ConfigError.of(f"experiments={name}", f"{path} cannot be read as YAML: {said}") from None
    if not isinstance(content, dict):
        raise ConfigError.of(f"experiments={name}", f"{path} must be a mapping of keys to values")
    return {str(key): value for key, value in content.items()}


def _globality(path: Path, where: str) -> list[Mistake]:
    """Without `# @package _global_` it would land under its own name and change nothing."""
    head = path.read_text(encoding="utf-8")[:512]
    if any(line.replace(" ", "").startswith("#@package_global_") for line in head.splitlines()):
        return []
    return [Mistake(where.rstrip(": "), "must begin with the line `# @package _global_`")]


def _chosen(defaults: Any) -> list[str]:
    """`- override /decoding: top_p` as `decoding=top_p`; Hydra's own groups are left to Hydra."""
    found = []
    for entry in defaults if isinstance(defaults, list) else []:
        for key, value in entry.items() if isinstance(entry, dict) else []:
            group = str(key).split()[-1].lstrip("/")
            if "@" not in group and not group.startswith("hydra"):
                found.append(f"{group}={_typed(value)}")
    return found


def _wrong_keys(content: dict[str, Any], where: str, catalog: Catalog) -> list[Mistake]:
    """Keys of the file's body that there are not; values are checked once they are composed."""
    mistakes = []
    for part, values in content.items():
        if part in ("hydra", "defaults", *SWEEP_KEYS):
            continue
        if part not in parts():
            mistakes.append(wrong_key(part, f"{where}{part}", catalog))
        elif not isinstance(values, dict):
            cure = f"a choice stands in the defaults list: `- override /{part}: {_typed(values)}`"
            mistakes.append(Mistake(f"{where}{part}: {_typed(values)}", cure))
        else:
            wrong = [key for key in values if f"{part}.{key}" not in value_keys()]
            mistakes += [
                wrong_key(f"{part}.{key}", f"{where}{part}.{key}={_typed(values[key])}", catalog)
                for key in wrong
            ]
    return mistakes


def _wrong_params(content: dict[str, Any], where: str, catalog: Catalog) -> list[Mistake]:
    """Wrong names in `hydra.sweeper.params`, the product of the sweep."""
    params: Any = content
    for key in ("hydra", "sweeper", "params"):
        params = params.get(key) if isinstance(params, dict) else None
    if params is None:
        return []
    if not isinstance(params, dict):
        return [Mistake(f"{where}hydra.sweeper.params", "must be a mapping, as in `decoding: greedy,top_p`")]
    mistakes, texts = [], []
    for key, value in params.items():
        if isinstance(value, list) and str(key) in catalog.groups:
            cure = f"write the choices as one text: `{key}: {','.join(map(str, value))}`"
            mistakes.append(Mistake(f"{where}{key}: {value}", cure))
        else:
            texts.append(f"{key}={_typed(value)}")
    return mistakes + check_overrides(texts, catalog, where).mistakes


def wrong_cases(cases: Any, where: str, catalog: Catalog) -> list[Mistake]:
    """Wrong names in `cases`, a list of lists of overrides."""
    mistakes: list[Mistake] = []
    for case in cases if isinstance(cases, list) else [cases] if cases else []:
        shown = f"{where}cases: {case}"
        if not isinstance(case, list) or not case or not all(isinstance(text, str) for text in case):
            mistakes.append(
                Mistake(shown, "must be a list of overrides, as in [decoding=greedy, generation.seed=1]")
            )
            continue
        inside = check_overrides(case, catalog, f"{where}cases: ")
        mistakes += inside.mistakes
        if inside.sweeps:
            mistakes.append(Mistake(shown, "a case is one point; give each value a case of its own"))
        if inside.experiments:
            mistakes.append(Mistake(shown, "a case cannot name an experiment"))
    return mistakes


def _typed(value: Any) -> str:
    """A YAML value as it would be typed."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
