"""The search path: where YAML files are found, and which config groups and choices they give.

A choice is built in or the user's (`--config-dir`); an experiment is in `./experiments` or built in.
Works in a clone, an editable install and a wheel.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import schema
from harness.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.plugins.config_source import ConfigSource

PACKAGE = Path(__file__).resolve().parent.parent
EXPERIMENTS = "experiments"


def built_in(folder: str) -> Path:
    """Return the folder `conf` or `experiments`: inside the package in a wheel, else beside it."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def conf_folder() -> Path:
    """Return the folder of the built-in config groups."""
    return built_in("conf")


def experiment_names() -> list[str]:
    """Return the name of every experiment, sorted."""
    return sorted({path.stem for folder in _experiment_folders() for path in folder.glob("*.yaml")})


def experiment_file(name: str) -> Path | None:
    """Return the YAML file of an experiment; None when there is none of this name.

    Raises:
        ConfigError: two different files have this name.
    """
    candidates = [folder / f"{name}.yaml" for folder in _experiment_folders()]
    files = [path for path in candidates if path.is_file()]
    if len({path.resolve() for path in files}) > 1:
        both = " and ".join(str(path) for path in files)
        raise ConfigError.of(f"experiments={name}", f"two files have this name, {both}; rename one")
    return files[0] if files else None


def _experiment_folders() -> list[Path]:
    """`./experiments` of the working folder, then the built-in ones; each folder once."""
    folders = [Path.cwd() / EXPERIMENTS, built_in(EXPERIMENTS)]
    return list(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))


def first_comment(path: Path) -> str:
    """Return the first comment of a YAML file that is not a directive, which says what it is for; or ""."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if text and not text.startswith("#"):
            break
        text = text.lstrip("#").strip()
        if text and not text.startswith("@"):
            return text
    return ""


class ConfigGroups:
    """The config groups and their choices as Hydra will find them, read once.

    Args:
        config_dir: the folder of `--config-dir`, if given.
        searchpath: more folders, from `hydra.searchpath=[...]`.
    """

    def __init__(self, config_dir: str | None = None, searchpath: tuple[str, ...] = ()) -> None:
        self.config_dir = config_dir
        self.searchpath = searchpath

    @cached_property
    def loader(self) -> ConfigLoaderImpl:
        """Return a config loader with the search path that the command will have."""
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
        """Where choices come from; without Hydra's own configs and schemas."""
        return [
            s for s in self.loader.get_sources() if s.provider not in ("hydra", "schema") and s.available()
        ]

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

    def file(self, group: str, choice: str) -> Path | None:
        """Return the YAML file of a choice; None for one that is not a file."""
        for source in self._sources:
            path = Path(source.path) / group / f"{choice}.yaml"
            if source.scheme() == "file" and path.is_file():
                return path
        return None
