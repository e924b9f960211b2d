"""What Hydra itself would leave of a run: `.hydra/` of a single one, `multirun.yaml` of a sweep.

Hydra writes before it runs, but a sweep's folder is known only once its points are; so the texts are made
here and written by who makes the folder. Passwords are not among them.
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
"""Given the sweep's folder, the text of each file by its path in there."""

_USER_OF_A_URL = re.compile(r"://[^/@\s]+@")
_ENVIRONMENT = re.compile(r"(env_set[^=\n]*=).*")


def of_run(config: DictConfig, hydra: DictConfig) -> HydraFiles:
    """Of a single run.

    Args:
        config: as the task function gets it, without Hydra's own.
        hydra: Hydra's own, under the key `hydra`.
    """

    def files(folder: Path) -> dict[str, str]:
        placed = _placed(hydra, folder)
        return {
            ".hydra/config.yaml": _text(config),
            ".hydra/hydra.yaml": _text(placed),
            ".hydra/overrides.yaml": _text(placed.hydra.overrides.task),
        }

    return files


def of_sweep(config: DictConfig) -> HydraFiles:
    """Of a sweep; `config` is the whole one, what is swept still at its defaults."""
    return lambda folder: {"multirun.yaml": _text(_hidden(copy.deepcopy(config)))}


def _placed(hydra: DictConfig, folder: Path) -> DictConfig:
    """Hydra's config, saying where the files lie."""
    from omegaconf import read_write

    hydra = copy.deepcopy(hydra)
    with read_write(hydra.hydra.runtime):
        hydra.hydra.runtime.output_dir = os.path.abspath(folder)
    return _hidden(hydra)


def _hidden(config: DictConfig) -> DictConfig:
    """Without the values of environment variables that a command sets."""
    from omegaconf import read_write

    variables = config.hydra.job.env_set
    with read_write(variables):
        variables.update(dict.fromkeys(variables, "***"))
    return config


def _text(config: DictConfig) -> str:
    """As YAML, interpolations as they are, passwords of addresses (`tracking.uri`) left out."""
    from omegaconf import OmegaConf

    return _ENVIRONMENT.sub(r"\1***", _USER_OF_A_URL.sub("://***@", OmegaConf.to_yaml(config)))
