"""Which groups and choices there are: ours, the user's (`--config-dir`), and the experiments."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import schema
from harness.config.places import conf_folder
from harness.errors import Mistake

if TYPE_CHECKING:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.plugins.config_source import ConfigSource

EXPERIMENTS = "experiments"


class Catalog:
    """The config groups as Hydra will find them, read once.

    Args:
        config_dir: the folder of `--config-dir`, if given.
        searchpath: more of the same, from `hydra.searchpath=[...]`.
    """

    def __init__(self, config_dir: str | None = None, searchpath: tuple[str, ...] = ()) -> None:
        self.config_dir = config_dir
        self.searchpath = searchpath

    @cached_property
    def loader(self) -> ConfigLoaderImpl:
        """A config loader with the search path that the command will have."""
        from hydra._internal.config_loader_impl import ConfigLoaderImpl
        from hydra._internal.utils import create_config_search_path
        from hydra.core.config_search_path import SearchPathQuery
        from hydra.core.utils import setup_globals

        schema.register()
        setup_globals()
        path = create_config_search_path(str(conf_folder()))
        before_schema = SearchPathQuery(provider="schema")
        if self.config_dir is not None:
            folder = Path(self.config_dir).absolute()
            path.prepend(provider="command-line", path=f"file://{folder}", anchor=before_schema)
        for entry in self.searchpath:
            path.prepend(provider="hydra.searchpath", path=entry, anchor=before_schema)
        return ConfigLoaderImpl(config_search_path=path)

    @cached_property
    def _sources(self) -> list[ConfigSource]:
        """Where choices come from; not Hydra's own, nor schemas."""
        return [
            s for s in self.loader.get_sources() if s.provider not in ("hydra", "schema") and s.available()
        ]

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The choices of each group, sorted: model, quantization, ..., experiments, and the user's own."""
        from hydra.core.object_type import ObjectType

        found: dict[str, set[str]] = {}
        for source in self._sources:
            for group in source.list("", ObjectType.GROUP):
                if group != "hydra" and (choices := source.list(group, ObjectType.CONFIG)):
                    found.setdefault(group, set()).update(choices)
        ours = [*schema.choice_parts(), EXPERIMENTS]
        order = [name for name in ours if name in found] + sorted(set(found) - set(ours))
        return {name: sorted(found[name]) for name in order}

    def clashes(self) -> list[Mistake]:
        """Choices that two sources have by the same name; Hydra would take the first in silence."""
        mistakes = []
        for group, choices in self.groups.items():
            for choice in choices:
                homes = [s for s in self._sources if s.is_config(f"{group}/{choice}")]
                if len(homes) > 1:
                    where = " and ".join(f"{home.path or home.provider}/{group}" for home in homes)
                    mistakes.append(Mistake(f"{group}={choice}", f"there are two, in {where}; rename yours"))
        return mistakes

    def file(self, group: str, choice: str) -> Path | None:
        """The YAML file of a choice, where it is a file."""
        for source in self._sources:
            path = Path(source.path) / group / f"{choice}.yaml"
            if source.scheme() == "file" and path.is_file():
                return path
        return None
