"""YAML files that a user wrote, checked before OmegaConf and Hydra build configs of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ConfigError

if TYPE_CHECKING:
    from yaml import Node

MOST_BYTES = 10_000_000
MOST_VALUES = 100_000
"""The most keys and values of a file with its aliases (`*name`) written out: Hydra copies them many times."""
DEEPEST = 50
"""The deepest nesting: parsers and copies of a config call themselves once a level."""


def check_yaml(path: Path, key: str) -> None:
    """Check that a YAML file can be read, and is no larger than a config when its aliases are written out.

    Args:
        path: the file.
        key: what named it, as in `experiments=mine`.

    Raises:
        ConfigError: it cannot be read, is not YAML, contains itself, or is too large or too deep.
    """
    import yaml

    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError.of(key, f"{path} is larger than {MOST_BYTES:,} bytes; put prompts into a file")
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        count, _ = (0, 0) if root is None else _measure(root, {}, 1)
    except RecursionError:
        message = f"is nested deeper than {DEEPEST} levels, or contains itself; write it flatter"
        raise ConfigError.of(key, f"{path} {message}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError.of(key, f"{path} {unreadable(error)}") from None
    if count > MOST_VALUES:
        message = f"has {count:,} values, at most {MOST_VALUES:,} make a config; put prompts into a file"
        raise ConfigError.of(key, f"{path} {message}")


def unreadable(error: Exception) -> str:
    """Return what is said of a file that cannot be read as YAML."""
    return f"cannot be read as YAML: {' '.join(str(getattr(error, 'strerror', None) or error).split())}"


def _measure(node: Node, known: dict[int, tuple[int, int]], level: int) -> tuple[int, int]:
    """The values of a node, and its levels; raises RecursionError where it is too deep or contains itself."""
    if id(node) not in known:
        if level > DEEPEST:
            raise RecursionError
        # A sequence has nodes, a mapping pairs of them, a scalar a text.
        inner = node.value if isinstance(node.value, list) else []
        nodes = [one for entry in inner for one in (entry if isinstance(entry, tuple) else (entry,))]
        measured = [_measure(one, known, level + 1) for one in nodes]
        count = 1 + sum(count for count, _ in measured)
        known[id(node)] = count, 1 + max((levels for _, levels in measured), default=0)
    if level + known[id(node)][1] > DEEPEST + 1:
        raise RecursionError
    return known[id(node)]
