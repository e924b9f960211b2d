"""Where the YAML files of configs and experiments are, in a clone, an editable install and a wheel."""

from __future__ import annotations

from pathlib import Path

from harness.errors import ConfigError

PACKAGE = Path(__file__).resolve().parent.parent
CONFIG_NAME = "config"
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
    files = (path for folder in _experiment_folders() for path in folder.glob("*.yaml") if path.is_file())
    return sorted({path.stem for path in files})


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


def comments(path: Path) -> list[str]:
    """Return the comments at the head of a YAML file that are no directives, a line each."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if text and not text.startswith("#"):
            break
        text = text.lstrip("#").strip()
        if text and not text.startswith("@"):
            found.append(text)
    return found


def first_comment(path: Path) -> str:
    """Return the first comment of a YAML file, which says what it is for; or ""."""
    return next(iter(comments(path)), "")
