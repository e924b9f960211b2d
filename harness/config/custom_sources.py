"""A model or prompts of one's own: `model.id`, `prompts.file` and `prompts.items` stand for a choice.

Said without a choice beside it, such a key stands for the choice `custom`, so that nothing of the default
one is left over. Said beside a choice, it takes the place of what that choice holds; its other keys stay.
An experiment says them as the command line does; where both speak, the command line counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.config.experiment_file import said_in
from harness.config.overrides import parse
from harness.config.search_path import EXPERIMENTS
from harness.errors import ConfigError

SOURCES: dict[str, tuple[str, ...]] = {"model": ("id",), "prompts": ("file", "items")}


@dataclass(frozen=True)
class Sources:
    """What the sources that a job names come to.

    Attributes:
        own: the parts whose content is the user's own; they are named by it.
        implied: overrides that go without saying: the choice `custom`, null for a part's other sources.
    """

    own: frozenset[str]
    implied: tuple[str, ...]


def sources_of(overrides: Sequence[str], said: Callable[[str], list[str]] = said_in) -> Sources:
    """The sources among some overrides, and in the experiment they name.

    Args:
        overrides: of one job, names checked.
        said: what an experiment of this name says, as overrides.

    Raises:
        ConfigError: another choice is made than the source that the experiment holds, which would win.
    """
    typed = _by_key(overrides)
    experiment = str(parse(typed[EXPERIMENTS]).value()) if EXPERIMENTS in typed else ""
    written = _by_key(said(experiment)) if experiment else {}
    own, implied = set(), []
    for part, names in SOURCES.items():
        keys = [f"{part}.{name}" for name in names]
        given = [key for key in keys if not _is_null(typed.get(key))]
        inherited = [key for key in keys if key not in typed and not _is_null(written.get(key))]
        if not given and inherited and _is_named(typed.get(part)):
            cure = f"give {inherited[0]} too, or take it out of the experiment"
            raise ConfigError.of(
                typed[part], f"experiments={experiment} sets {inherited[0]}, which would win; {cure}"
            )
        used = given or inherited
        if not used:
            continue
        own.add(part)
        if part not in typed and (given or part not in written):
            implied.append(f"{part}=custom")
        implied += [f"{key}=null" for key in keys if key not in used and key not in typed]
    return Sources(frozenset(own), tuple(implied))


def outranked(base: Iterable[str], extra: Iterable[str]) -> list[str]:
    """`base` without the sources in the place of which `extra` makes a choice."""
    chosen = {part for part in SOURCES if part in _by_key(extra)}
    sources = {f"{part}.{name}" for part in chosen for name in SOURCES[part]}
    return [text for text in base if _key(text) not in sources]


def _by_key(overrides: Iterable[str]) -> dict[str, str]:
    return {_key(text): text for text in overrides}


def _key(text: str) -> str:
    return text.lstrip("+").partition("=")[0]


def _is_null(text: str | None) -> bool:
    return text is None or text.partition("=")[2].strip() in ("null", "")


def _is_named(text: str | None) -> bool:
    """Whether a real choice is made, not `custom`."""
    return text is not None and text.partition("=")[2].strip() != "custom"
