"""Where the YAML files lie, in a clone, an editable install and a wheel, and where an experiment is found."""

from __future__ import annotations

from pathlib import Path

from harness.errors import ConfigError

PACKAGE = Path(__file__).resolve().parent.parent


def built_in(folder: str) -> Path:
    """`conf` or `experiments`: inside the package when installed from a wheel, else beside it."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def conf_folder() -> Path:
    """The built-in config groups."""
    return built_in("conf")


def experiment_folders() -> list[Path]:
    """`./experiments` of the working folder, then the built-in ones; one folder only once."""
    folders = [Path.cwd() / "experiments", built_in("experiments")]
    return list(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))


def experiment_names() -> list[str]:
    """Every experiment that `experiments=NAME` can name, sorted."""
    return sorted({path.stem for folder in experiment_folders() for path in folder.glob("*.yaml")})


def experiment_file(name: str) -> Path | None:
    """The YAML file of an experiment; None when there is none of this name.

    Raises:
        ConfigError: two different files have this name.
    """
    files = [
        folder / f"{name}.yaml" for folder in experiment_folders() if (folder / f"{name}.yaml").is_file()
    ]
    if len({path.resolve() for path in files}) > 1:
        both = " and ".join(str(path) for path in files)
        raise ConfigError.of(f"experiments={name}", f"there are two of this name, {both}; rename yours")
    return files[0] if files else None


def first_comment(path: Path) -> str:
    """What a YAML file says it is for: its first comment that is no directive; empty when it says nothing."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if text and not text.startswith("#"):
            break
        text = text.lstrip("#").strip()
        if text and not text.startswith("@"):
            return text
    return ""
