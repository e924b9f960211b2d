"""The right name that is nearest to a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(wrong: str, right: Iterable[str]) -> str | None:
    """The name in `right` most like `wrong`; None when nothing is like it.

    Dotted keys are also compared by their last component, so that a right name under a wrong part
    (`model.temperature`, plain `temperature`) finds its place.
    """
    names = list(right)
    whole = difflib.get_close_matches(wrong.lower(), names, n=1, cutoff=0.75)
    last = wrong.rpartition(".")[2].lower()
    same = [name for name in names if name.rpartition(".")[2] == last]
    if same:
        return same[0]
    if whole:
        return whole[0]
    by_last = {name.rpartition(".")[2]: name for name in reversed(names)}
    close = difflib.get_close_matches(last, by_last, n=1, cutoff=0.6)
    return by_last[close[0]] if close else None


def did_you_mean(wrong: str, right: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing."""
    name = nearest(wrong, right)
    return f"; did you mean {name}?" if name else ""
