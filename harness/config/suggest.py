"""Suggestions: the known name that is most similar to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


def most_similar(wrong: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `wrong`; None when none is similar.

    Dotted keys are also compared by their last component, so that a key under the wrong section
    (`model.temperature`) or under none (`temperature`) is found.
    """
    names = list(known)
    last = wrong.rpartition(".")[2].lower()
    same_last = [name for name in names if name.rpartition(".")[2] == last]
    if same_last:
        return same_last[0]
    close = difflib.get_close_matches(wrong.lower(), names, n=1, cutoff=0.75)
    if close:
        return close[0]
    by_last = {name.rpartition(".")[2]: name for name in reversed(names)}
    close = difflib.get_close_matches(last, by_last, n=1, cutoff=0.6)
    return by_last[close[0]] if close else None


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?`, or an empty string when nothing is similar."""
    name = most_similar(wrong, known)
    return f"; did you mean {name}?" if name else ""


def similar_path(text: str, *, folder: bool = False) -> str:
    """Return `; did you mean PATH?` for a path that does not exist and a similar one in the same folder.

    Args:
        text: the path, as the user wrote it.
        folder: whether a folder is meant, not a file.
    """
    path = Path(text).expanduser()
    try:
        names = [one.name for one in path.parent.iterdir() if one.is_dir() == folder]
    except OSError:
        return ""
    names = [name for name in names if _alike(Path(name).stem, path.stem)]  # an equal ending is no likeness
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    if not close:
        lower = {name.lower(): name for name in names}
        close = [lower[one] for one in difflib.get_close_matches(path.name.lower(), lower, n=1, cutoff=0.6)]
    return f"; did you mean {text.rstrip('/').removesuffix(path.name)}{close[0]}?" if close else ""


def _alike(first: str, second: str) -> bool:
    return difflib.SequenceMatcher(None, first.lower(), second.lower()).ratio() >= 0.6
