"""One line for whatever Hydra and OmegaConf raise while composing."""

from __future__ import annotations

import re

from harness.config.overrides import wrong_key
from harness.config.search_path import Catalog
from harness.errors import HarnessError, Mistake

_FULL_KEY = re.compile(r"full_key: (\S+)")
_IN_FILE = re.compile(r"In '([^']+)'")


def explain(error: BaseException, catalog: Catalog | None = None) -> list[str]:
    """What to print for an exception: a line a mistake.

    Args:
        error: what was raised; a HarnessError speaks for itself.
        catalog: to name the nearest right key; only Hydra's errors need it.
    """
    if isinstance(error, HarnessError):
        mistakes = getattr(error, "mistakes", None)
        return [told(mistake) for mistake in mistakes] if mistakes else [str(error)]
    chain = _chain(error)
    text = " ".join(str(one) for one in chain)
    file = _IN_FILE.search(text)
    where = f"{file.group(1)}.yaml: " if file else ""
    key = _FULL_KEY.search(text)
    if catalog and key and ("not in" in text or "ConfigKeyError" in text):
        return [told(wrong_key(key.group(1), f"{where}{key.group(1)}", catalog))]
    first = next((str(one).strip() for one in chain if str(one).strip()), type(error).__name__)
    lines = [line.strip() for line in first.splitlines() if line.strip()]
    kept = [
        line
        for line in lines
        if not line.startswith(("See http", "full_key:", "object_type=", "reference_type="))
    ]
    cause = str(chain[-1]).strip().splitlines()
    if len(chain) > 1 and cause and cause[0].strip() not in " ".join(kept):
        kept.append(cause[0].strip())
    where += f"{key.group(1)}: " if key else ""
    return [where + (" ".join(kept) or first)]


def told(mistake: Mistake) -> str:
    """A mistake as one line, with the points that it concerns when those are not all."""
    if not mistake.points:
        return _one_line(str(mistake))
    more = len(mistake.points) - 3
    where = ", ".join(mistake.points[:3]) + (f" and {more} more" if more > 0 else "")
    return _one_line(f"{mistake} (at {where})")


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and what caused it, outermost first."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__
    return found
