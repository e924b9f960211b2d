"""The files that Hydra itself would write of a run, `.hydra/` or `multirun.yaml`, and the launcher it names.

The folder of a sweep is known only once its points are, so the code that creates it writes them.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.launcher import launcher_of
from harness.config.launcher_section import GROUP, LauncherSection
from harness.config.secret_text import hide_secrets

if TYPE_CHECKING:
    from omegaconf import DictConfig

_ENVIRONMENT = re.compile(r"(env_set[^=\n]*=).*")


@dataclass(frozen=True)
class HydraFiles:
    """Given the sweep's folder, returns the text of each file by its path in that folder.

    Attributes:
        config: complete, with Hydra's node; of a sweep, with what is swept at its defaults.
        launcher: who runs the groups; None for this process.
    """

    config: DictConfig
    launcher: LauncherSection | None

    def __call__(self, folder: Path) -> Mapping[str, str]:
        """Return them, without passwords and the environment variables that the run sets."""
        from hydra.types import RunMode
        from omegaconf import OmegaConf

        full = copy.deepcopy(self.config)
        hydra = full.hydra
        OmegaConf.set_readonly(hydra, False)
        hydra.job.env_set.update(dict.fromkeys(hydra.job.env_set, "***"))
        if hydra.mode == RunMode.MULTIRUN:
            return {"multirun.yaml": _yaml(full)}
        hydra.runtime.output_dir = os.path.abspath(folder)
        job = OmegaConf.masked_copy(full, [str(key) for key in full if key != "hydra"])
        return {
            ".hydra/config.yaml": _yaml(job),
            ".hydra/hydra.yaml": _yaml(OmegaConf.masked_copy(full, "hydra")),
            ".hydra/overrides.yaml": _yaml(hydra.overrides.task),
        }


def hydra_files(config: DictConfig) -> HydraFiles:
    """Return the files of a run, and the launcher that its config chooses.

    Raises:
        ConfigError: a key of the launcher has a wrong value.
    """
    from omegaconf import OmegaConf

    keys: Any = OmegaConf.to_container(config.hydra.launcher)
    return HydraFiles(config, launcher_of(keys, config.hydra.runtime.choices.get(GROUP)))


def _yaml(config: DictConfig) -> str:
    """As YAML with interpolations unresolved, and without the passwords of URLs (`tracking.uri`)."""
    from omegaconf import OmegaConf

    plain = hide_secrets(OmegaConf.to_container(config))
    return _ENVIRONMENT.sub(r"\1***", OmegaConf.to_yaml(OmegaConf.create(plain)))
