"""The command line, split into Hydra's flags and the overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.config.suggest import did_you_mean
from harness.config.text_file import AS_UTF8, not_unicode
from harness.errors import ConfigError, Mistake

# Hydra's flags that are followed by a value; `--flag=value` is one word.
WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--config-dir", "-cd"}
INFO = {"--info", "-i"}
SWITCHES = {"--resolve", "--run", "-r", "--multirun", "-m", "--shell-completion", "-sc", "--hydra-help"}
_NO_PATH = "the harness has its own config; add your own groups with --config-dir FOLDER"
_NO_NAME = "the harness has its own config; run your own sweep with experiments=NAME"
REFUSED = {
    "--config-path": _NO_PATH,
    "-cp": _NO_PATH,
    "--config-name": _NO_NAME,
    "-cn": _NO_NAME,
    "--experimental-rerun": "not supported; the same command again reuses what is done",
}


@dataclass
class Arguments:
    """What was typed after the command, if any: Hydra's flags with their values, and everything else."""

    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    config_dir: str | None = None

    def has(self, *flags: str) -> bool:
        """Return whether one of these flags was given."""
        return any(flag in self.flags for flag in flags)


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Separate the flags, which may be anywhere, from the overrides.

    Raises:
        ConfigError: an unknown flag, one without its value, or bytes that are not UTF-8.
    """
    found = Arguments()
    words = list(argv)
    if wrong := [Mistake(word, f"holds {what}; {AS_UTF8}") for word in words if (what := not_unicode(word))]:
        raise ConfigError(wrong)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            found.overrides.append(word)
        elif name in REFUSED:
            raise ConfigError.of(name, REFUSED[name])
        elif name in WITH_VALUE:
            if not equals:
                if not words:
                    raise ConfigError.of(name, "needs a value after it")
                value = words.pop(0)
            found.flags += [name, value]
            if name in ("--config-dir", "-cd"):
                if found.config_dir is not None:
                    raise ConfigError.of(name, f"given twice, {found.config_dir} and {value}; leave one out")
                found.config_dir = value
        elif name in INFO:
            takes = bool(words) and "=" not in words[0] and not words[0].startswith("-")
            found.flags += [word, words.pop(0)] if takes and not equals else [word]
        elif word in SWITCHES:
            found.flags.append(word)
        else:
            known = [*SWITCHES, *WITH_VALUE, *INFO, "--help", "--version"]
            hint = did_you_mean(word, [flag for flag in known if flag.startswith("--")])
            raise ConfigError.of(word, f"no such flag{hint or '; harness --help lists the flags'}")
    return found
