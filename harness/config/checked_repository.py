"""The config files of Hydra's search path, of which the user's are checked before they are read."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any, cast

from hydra._internal.config_repository import ConfigRepository
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.config.launcher import LAUNCHERS
from harness.config.launcher_section import GROUP
from harness.config.yaml_file import check_yaml, unreadable
from harness.errors import ConfigError


class _OwnLaunchers:
    """Hydra's store of schemas, but for those that plug-ins have of launchers by a name of ours.

    Args:
        schemas: the store.
    """

    def __init__(self, schemas: ConfigSource) -> None:
        self._schemas = schemas

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a schema."""
        group, _, choice = config_path.removesuffix(".yaml").rpartition("/")
        if group == GROUP and choice in LAUNCHERS:
            raise ConfigLoadError(f"no schema of {config_path}")
        return self._schemas.load_config(config_path)


class CheckedRepository(ConfigRepository):
    """Hydra's repository; a user's file that cannot become a config is a ConfigError that names it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> CheckedRepository:
        """Copy the list of sources, not the sources: one of them is the whole store of schemas.

        Hydra copies a repository for each composing, because it gives the copy other sources.
        """
        copied = copy(self)
        copied.sources = list(self.sources)
        return copied

    def get_schema_source(self) -> ConfigSource:
        """Return the schemas, but for hydra-submitit-launcher's: our launchers have more keys."""
        return cast(ConfigSource, _OwnLaunchers(super().get_schema_source()))

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Read a choice, as in `decoding/top_p`; None where there is none."""
        source = self._find_object_source(config_path=config_path, object_type=ObjectType.CONFIG)
        if source is None or source.scheme() != "file" or source.provider == "main":
            return super().load_config(config_path)
        group, _, choice = config_path.removesuffix(".yaml").rpartition("/")
        key = f"{group.lstrip('/')}={choice}"
        path = Path(source.path) / f"{group.lstrip('/')}" / f"{choice}.yaml"
        check_yaml(path, key)
        try:
            return super().load_config(config_path)
        except (YAMLError, OmegaConfBaseException, ValueError, OverflowError) as error:
            raise ConfigError.of(key, f"{path} {unreadable(error)}") from None
