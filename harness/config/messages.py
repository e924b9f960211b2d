"""One line per mistake: for our own errors, and for whatever Hydra and OmegaConf raise while composing."""

from __future__ import annotations

import re

from harness.config.groups import ConfigGroups
from harness.config.overrides import unknown_key
from harness.config.secret_text import without_secrets
from harness.errors import HarnessError, Mistake

_FULL_KEY = re.compile(r"full_key: (\S+)")
_IN_FILE = re.compile(r"In '([^']+)'")


def explain(error: BaseException, groups: ConfigGroups | None = None) -> list[str]:
    """Return what to print for an exception, one line per mistake, without secrets of addresses.

    Args:
        error: what was raised; the text of a HarnessError is printed as it is.
        groups: for the suggestion of a known key; only needed for Hydra's errors.
    """
    return [without_secrets(line) for line in _lines(error, groups)]


def _lines(error: BaseException, groups: ConfigGroups | None) -> list[str]:
    if isinstance(error, HarnessError):
        mistakes = getattr(error, "mistakes", None)
        return [format_mistake(mistake) for mistake in mistakes] if mistakes else [_joined(str(error))]
    chain = _chain(error)
    text = " ".join(str(one) for one in chain)
    file, key = _IN_FILE.search(text), _FULL_KEY.search(text)
    prefix = f"{file.group(1)}.yaml: " if file else ""
    if groups and key and ("not in" in text or "ConfigKeyError" in text):
        return [format_mistake(unknown_key(key.group(1), f"{prefix}{key.group(1)}", groups))]
    first = next((str(one).strip() for one in chain if str(one).strip()), type(error).__name__)
    lines = [line.strip() for line in first.splitlines() if line.strip()]
    noise = ("See http", "full_key:", "object_type=", "reference_type=")
    lines = [line for line in lines if not line.startswith(noise)]
    cause = str(chain[-1]).strip().splitlines()
    if len(chain) > 1 and cause and cause[0].strip() not in " ".join(lines):
        lines.append(cause[0].strip())
    prefix += f"{key.group(1)}: " if key else ""
    return [_joined(prefix + (" ".join(lines) or first))]


def format_mistake(mistake: Mistake) -> str:
    """Return a mistake as one line, with the points that it concerns when it does not concern all."""
    text = str(mistake)
    if mistake.points:
        more = len(mistake.points) - 3
        text += f" (at {', '.join(mistake.points[:3])}{f' and {more} more' if more > 0 else ''})"
    return _joined(text)


def _joined(text: str) -> str:
    return " ".join(text.split("\n"))


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and what caused it, outermost first."""
    return [error, *(_chain(error.__cause__) if error.__cause__ else [])]
