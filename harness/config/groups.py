"""The config groups and their choices: built in or the user's (`--config-dir`, `hydra.searchpath`)."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import schema
from harness.config.plugins import Plugin, conf_folders
from harness.config.search_path import CONFIG_NAME, EXPERIMENTS, conf_folder
from harness.errors import Mistake

if TYPE_CHECKING:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_repository import CachingConfigRepository
    from hydra.plugins.config_source import ConfigSource


class ConfigGroups:
    """The config groups and their choices as Hydra will find them, read once.

    Args:
        config_dir: the folder of `--config-dir`, if given.
        searchpath: the override `hydra.searchpath=[...]`, if given.
    """

    def __init__(self, config_dir: str | None = None, searchpath: str | None = None) -> None:
        self.config_dir = config_dir
        self.searchpath = searchpath

    @cached_property
    def plugins(self) -> tuple[tuple[Plugin, Path], ...]:
        """Return the plug-ins with config groups, and their folders."""
        return tuple(conf_folders())

    @cached_property
    def loader(self) -> ConfigLoaderImpl:
        """Return Hydra's config loader; it adds the folders of `hydra.searchpath` itself."""
        from hydra import version
        from hydra._internal.config_loader_impl import ConfigLoaderImpl
        from hydra._internal.sources_registry import SourcesRegistry
        from hydra._internal.utils import create_config_search_path
        from hydra.core.config_search_path import SearchPathQuery
        from hydra.core.utils import setup_globals

        from harness.config.checked_repository import CheckedRepository
        from harness.config.experiment_source import ExperimentSource

        version.setbase("1.3")
        setup_globals()
        schema.register()
        SourcesRegistry.instance().register(ExperimentSource)
        path = create_config_search_path(str(conf_folder()))
        before_schema = SearchPathQuery(provider="schema")
        if self.config_dir is not None:
            folder = Path(self.config_dir).absolute()
            path.prepend(provider="command-line", path=f"file://{folder}", anchor=before_schema)
        for plugin, folder in self.plugins:
            path.prepend(provider=f"plug-in {plugin.name}", path=f"file://{folder}", anchor=before_schema)
        path.prepend(provider=EXPERIMENTS, path=f"{EXPERIMENTS}://", anchor=before_schema)
        loader = ConfigLoaderImpl(config_search_path=path)
        loader.repository = CheckedRepository(config_search_path=path)
        return loader

    @cached_property
    def repository(self) -> CachingConfigRepository:
        """Return the configs of all sources."""
        overrides = [] if self.searchpath is None else [self.searchpath]
        return self.loader._parse_overrides_and_create_caching_repo(CONFIG_NAME, overrides)[1]

    @cached_property
    def _sources(self) -> list[ConfigSource]:
        """Where choices come from; without Hydra's own configs and schemas."""
        sources = self.repository.get_sources()
        return [s for s in sources if s.provider not in ("hydra", "schema") and s.available()]

    @cached_property
    def choices(self) -> dict[str, list[str]]:
        """Return the sorted choices of each group: model, quantization, ..., experiments, the user's."""
        from hydra.core.object_type import ObjectType

        found: dict[str, set[str]] = {}
        for source in self._sources:
            for group in source.list("", ObjectType.GROUP):
                if group != "hydra" and (choices := source.list(group, ObjectType.CONFIG)):
                    found.setdefault(group, set()).update(choices)
        ours = [*schema.choice_sections(), EXPERIMENTS]
        order = [name for name in ours if name in found] + sorted(set(found) - set(ours))
        return {name: sorted(found[name]) for name in order}

    @property
    def has_files_of_the_user(self) -> bool:
        """Return whether choices may come from files of the user's own, or of plug-ins."""
        return self.config_dir is not None or self.searchpath is not None or bool(self.plugins)

    def duplicates(self) -> list[Mistake]:
        """Return the choices that two sources define; Hydra would silently take the first."""
        mistakes = []
        for group, choices in self.choices.items():
            for choice in choices:
                homes = [s for s in self._sources if s.is_config(f"{group}/{choice}")]
                if len(homes) > 1:
                    folders = " and ".join(f"{home.path or home.provider}/{group}" for home in homes)
                    message = f"two choices have this name, in {folders}; rename one"
                    mistakes.append(Mistake(f"{group}={choice}", message))
        return mistakes

    def is_self_contained(self, group: str, choice: str) -> bool:
        """Return whether a choice sets only its own section: it has no defaults list and no package."""
        found = self.repository.load_config(f"{group}/{choice}")
        return found is not None and not found.defaults_list and found.header.get("package") is None

    def own_values(self, section: str, choice: str) -> dict[str, Any] | None:
        """Return every key of a section as a choice sets it by itself; None where only composing tells."""
        if not self.is_self_contained(section, choice):
            return None
        from omegaconf import OmegaConf

        content: Any = self.repository.load_config(f"{section}/{choice}").config  # type: ignore[union-attr]
        values = OmegaConf.to_container(content)
        if not isinstance(values, dict) or "${" in json.dumps(values, default=str):
            return None
        defaults = {key: info.default for key, info in schema.section_fields(section).items()}
        return {**defaults, **{str(key): value for key, value in values.items()}}

    def file(self, group: str, choice: str) -> Path | None:
        """Return the YAML file of a choice; None for one that is not a file."""
        for source in self._sources:
            path = Path(source.path) / group / f"{choice}.yaml"
            if source.scheme() == "file" and path.is_file():
                return path
        return None
