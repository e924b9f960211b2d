"""Packages that extend the harness, by the entry points of their distributions.

    [project.entry-points."harness.conf"]
    politeness = "harness_politeness"              # a package with a folder conf/
    [project.entry-points."harness.metrics"]
    politeness = "harness_politeness.metrics:politeness"

Nothing of a package is imported before something of it is asked for by its name.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

from harness.config.suggest import did_you_mean
from harness.errors import ConfigError, HarnessError, one_line

CONF, METRICS, PROCESSORS, BACKENDS = GROUPS = (
    "harness.conf",
    "harness.metrics",
    "harness.processors",
    "harness.backends",
)
"""The groups of entry points."""


@dataclass(frozen=True)
class Plugin:
    """An entry point.

    Attributes:
        group, name: one of GROUPS, and the name in it.
        reference: `package.module:NAME`, of `harness.conf` a package.
        distribution, version: what it was installed with.
    """

    group: str
    name: str
    reference: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"

    def load(self) -> Any:
        """Return what it names.

        Raises:
            HarnessError: it cannot be imported, or is not there; names the distribution.
        """
        module, _, name = self.reference.partition(":")
        try:
            return getattr(import_module(module), name) if name else import_module(module)
        except (Exception, SystemExit) as error:
            raise self._broken(one_line(error)) from error

    def conf_folder(self) -> Path:
        """Return its folder of config groups; nothing of it is imported but packages around it.

        Raises:
            HarnessError: there is no such package, or it has no folder conf/.
        """
        try:
            spec = util.find_spec(self.reference)
        except (Exception, SystemExit) as error:
            raise self._broken(one_line(error)) from error
        places = None if spec is None else spec.submodule_search_locations
        if not places:
            raise self._broken(f"there is no package {self.reference}")
        folder = Path(next(iter(places))) / "conf"
        if not folder.is_dir():
            raise self._broken(f"{self.reference} has no folder conf")
        return folder

    def problem(self) -> str | None:
        """Return in one line why it does not work; None where it does."""
        try:
            self.conf_folder() if self.group == CONF else self.load()
        except HarnessError as error:
            return str(error)
        return None

    @cached_property
    def code(self) -> str:
        """What stands for its code: the version, and for a package that is no installed release its files."""
        top = self.reference.partition(":")[0].partition(".")[0]
        spec = util.find_spec(top)
        origin = None if spec is None else spec.origin
        found = metadata.distribution(self.distribution)
        if origin is None or _is_release(found, Path(origin)):
            return str(self)
        content = hashlib.sha256()
        for path in sorted(Path(origin).parent.rglob("*.py")):
            content.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return f"{self} {content.hexdigest()[:16]}"

    def _broken(self, reason: str) -> HarnessError:
        return HarnessError(f"the plug-in {self.name} of {self} does not work: {reason}")


def plugins(group: str) -> tuple[Plugin, ...]:
    """Return the entry points of a group, by name."""
    return _plugins(group, tuple(sys.path))


def plugin(group: str, name: str, key: str) -> Plugin | None:
    """Return the entry point of a name; None where there is none.

    Args:
        group: one of GROUPS.
        name: as it is asked for.
        key: what asks for it, for the mistake.

    Raises:
        ConfigError: two distributions have the name.
    """
    found = [one for one in plugins(group) if one.name == name]
    if len(found) > 1:
        both = " and ".join(str(one) for one in found)
        raise ConfigError.of(key, f"two plug-ins have this name, of {both}; uninstall one of them")
    return found[0] if found else None


def unknown_plugin(group: str, name: str) -> str:
    """Return what a message says of a name that no plug-in has."""
    names = [one.name for one in plugins(group)]
    known = f" (plug-ins: {', '.join(names)})" if names else ""
    return f"no plug-in has this name{did_you_mean(name, names)}{known}"


def conf_folders() -> Iterator[tuple[Plugin, Path]]:
    """Yield the folders of config groups; what does not work is left out (`broken_conf` says why)."""
    for one in plugins(CONF):
        try:
            yield one, one.conf_folder()
        except HarnessError:
            continue


def broken_conf() -> str:
    """Return, for the mistake of a choice that is not found, which plug-ins could not offer theirs."""
    problems = [problem for one in plugins(CONF) if (problem := one.problem())]
    return "".join(f"; {problem}" for problem in problems)


@cache
def _plugins(group: str, path: tuple[str, ...]) -> tuple[Plugin, ...]:
    found: dict[Plugin, None] = {}
    for one in metadata.entry_points(group=group):
        dist = one.dist
        name, version = (dist.name, dist.version) if dist is not None else ("unknown", "")
        found[Plugin(group, one.name, one.value.replace(" ", ""), name, version)] = None
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.distribution)))


def _is_release(found: metadata.Distribution, file: Path) -> bool:
    """Whether a file lies where a distribution was installed; not of one that is edited in place."""
    return bool(found.read_text("RECORD")) and file.is_relative_to(str(found.locate_file("")))
