"""What `harness help` and `doctor` say of launchers."""

from __future__ import annotations

from collections.abc import Iterator

from harness.cli.help_rows import row
from harness.config.launcher import LAUNCHERS, SERIAL, SERIAL_SUMMARY
from harness.config.launcher_section import GROUP, PREFIX, LauncherSection
from harness.config.validation import format_value
from harness.run.launchers import engine

_NAMES = (GROUP, "hydra.launcher", "launcher", "launchers")

_ALL = """\
`harness help NAME` lists a launcher's keys, `harness doctor` says which can be used here. With each of them
there is one store, one page, and one model load a group."""


def launcher_help(name: str) -> str | None:
    """Return the help of a name that belongs to launchers: all of them, one, one key; None for others."""
    if name in _NAMES:
        rows = [row(f"{GROUP}={SERIAL}", SERIAL_SUMMARY, 32)]
        rows += [row(f"{GROUP}={one.NAME}", one.SUMMARY, 32) for one in LAUNCHERS.values()]
        return "\n".join([*rows, "", _ALL])
    if name in LAUNCHERS:
        section = LAUNCHERS[name]
        return "\n".join([f"{GROUP}={name}: {section.SUMMARY}", "", *_rows(section), "", section.GUIDE])
    if name.startswith(PREFIX):
        found = [
            f"{GROUP}={section.NAME}:\n" + "\n".join(_rows(section, name.removeprefix(PREFIX)))
            for section in LAUNCHERS.values()
            if name.removeprefix(PREFIX) in section.all_keys()
        ]
        return "\n".join(found) or None
    return None


def _rows(section: type[LauncherSection], only: str | None = None) -> Iterator[str]:
    for key, info in section.all_keys().items():
        if only in (None, key):
            default = info.get_default(call_default_factory=True)
            shown = "" if default in (None, (), {}) else f" [{format_value(default)}]"
            yield row(f"{PREFIX}{key}", f"{info.description}{shown}", 40)


def usable_launchers() -> list[tuple[str, str]]:
    """Return of each launcher how it is chosen, and what it would do here, or what it lacks."""
    found = [(f"{GROUP}={SERIAL}", SERIAL_SUMMARY)]
    return found + [(f"{GROUP}={name}", engine(section).here()) for name, section in LAUNCHERS.items()]
