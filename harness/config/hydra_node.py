"""Hydra's own part of a composed config, and what files may set of it, whatever their folder and package.

Hydra's config names classes, of which its launchers, callbacks and loggers make objects: code would run while
a config is only checked. Here nothing does so, and what would have no effect is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.config.experiment_file import ONLY
from harness.config.groups import ConfigGroups
from harness.config.search_path import CONFIG_NAME
from harness.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Files may set the first two; Hydra itself writes the others for each command.
_FREE = ("mode", "sweeper.params", "runtime", "overrides", "job.override_dirname")


def check_hydra_node(config: DictConfig, overrides: Sequence[str]) -> None:
    """Check that files have set nothing of Hydra's that they must not.

    Args:
        config: composed, with Hydra's node.
        overrides: of the command line, names checked; what they set of Hydra's is no file's.

    Raises:
        ConfigError: names every such key.
    """
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    typed = [text for text in overrides if text.lstrip("+").startswith(("hydra.", "hydra/"))]
    plain = ConfigGroups().loader.load_configuration(CONFIG_NAME, typed, RunMode.MULTIRUN)
    found, expected = (OmegaConf.to_container(one.hydra, resolve=False) for one in (config, plain))
    if keys := list(_different(found, expected, "")):
        raise ConfigError(Mistake(f"hydra.{key}", f"set by a config file; {ONLY}") for key in keys)


def _different(found: Any, expected: Any, prefix: str) -> Iterator[str]:
    """Yield the dotted keys below `prefix` that differ."""
    for key in dict.fromkeys([*found, *expected]):
        dotted, ours, theirs = f"{prefix}{key}", found.get(key), expected.get(key)
        if dotted in _FREE or ours == theirs:
            continue
        if isinstance(ours, dict) and isinstance(theirs, dict):
            yield from _different(ours, theirs, f"{dotted}.")
        else:
            yield dotted
