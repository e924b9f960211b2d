"""The files that Hydra itself would write of a run: `.hydra/` of a single one, `multirun.yaml` of a sweep.

Hydra writes before it runs, but a sweep's folder is known only once its points are; so the texts are made
here and written by the code that creates the folder. Passwords are removed.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

HydraFiles = Callable[[Path], Mapping[str, str]]
"""Given the sweep's folder, returns the text of each file by its path in that folder."""

_USER_OF_A_URL = re.compile(r"://[^/@\s]+@")
_ENVIRONMENT = re.compile(r"(env_set[^=\n]*=).*")


def run_files(config: DictConfig, hydra: DictConfig) -> HydraFiles:
    """Return the files of a single run.

    Args:
        config: as the task function receives it, without Hydra's node.
        hydra: Hydra's own config, under the key `hydra`.
    """

    def files(folder: Path) -> dict[str, str]:
        with_folder = _with_folder(hydra, folder)
        return {
            ".hydra/config.yaml": _yaml(config),
            ".hydra/hydra.yaml": _yaml(with_folder),
            ".hydra/overrides.yaml": _yaml(with_folder.hydra.overrides.task),
        }

    return files


def sweep_files(config: DictConfig) -> HydraFiles:
    """Return the files of a sweep; `config` is complete, what is swept still at its defaults."""
    return lambda folder: {"multirun.yaml": _yaml(_without_environment(copy.deepcopy(config)))}


def _with_folder(hydra: DictConfig, folder: Path) -> DictConfig:
    """Hydra's config, with the folder that the files are written to."""
    from omegaconf import read_write

    hydra = copy.deepcopy(hydra)
    with read_write(hydra.hydra.runtime):
        hydra.hydra.runtime.output_dir = os.path.abspath(folder)
    return _without_environment(hydra)


def _without_environment(config: DictConfig) -> DictConfig:
    """The config without the values of environment variables that a command sets."""
    from omegaconf import read_write

    variables = config.hydra.job.env_set
    with read_write(variables):
        variables.update(dict.fromkeys(variables, "***"))
    return config


def _yaml(config: DictConfig) -> str:
    """As YAML with interpolations unresolved, and without the passwords of URLs (`tracking.uri`)."""
    from omegaconf import OmegaConf

    return _ENVIRONMENT.sub(r"\1***", _USER_OF_A_URL.sub("://***@", OmegaConf.to_yaml(config)))
