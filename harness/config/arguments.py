"""The command line taken apart: Hydra's flags, and the overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.errors import ConfigError

# Hydra's flags that are followed by a value; `--flag=value` is one word.
WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--config-dir", "-cd"}
INFO = {"--info", "-i"}
SWITCHES = {"--resolve", "--run", "-r", "--multirun", "-m", "--shell-completion", "-sc", "--hydra-help"}
REFUSED = {
    "--config-path": "the harness brings its own config; add groups of yours with --config-dir FOLDER",
    "-cp": "the harness brings its own config; add groups of yours with --config-dir FOLDER",
    "--config-name": "the harness brings its own config; name a sweep of yours with experiments=NAME",
    "-cn": "the harness brings its own config; name a sweep of yours with experiments=NAME",
    "--experimental-rerun": "not supported; the same command again reuses what is done",
}


@dataclass
class Arguments:
    """What was typed after the word, if any.

    Attributes:
        flags: Hydra's flags with their values, in order.
        overrides: everything else.
        config_dir: the value of `--config-dir`.
    """

    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    config_dir: str | None = None

    def has(self, *flags: str) -> bool:
        """Whether one of these flags was given."""
        return any(flag in self.flags for flag in flags)


def take_apart(argv: Sequence[str]) -> Arguments:
    """Flags may stand anywhere among the overrides.

    Raises:
        ConfigError: a flag that there is not, or one without its value.
    """
    found = Arguments()
    words = list(argv)
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
                found.config_dir = value
        elif name in INFO:
            takes = bool(words) and "=" not in words[0] and not words[0].startswith("-")
            found.flags += [word, words.pop(0)] if takes and not equals else [word]
        elif word in SWITCHES:
            found.flags.append(word)
        else:
            from harness.config.suggest import did_you_mean

            known = [*SWITCHES, *WITH_VALUE, *INFO, "--help", "--version"]
            hint = did_you_mean(word, [flag for flag in known if flag.startswith("--")])
            raise ConfigError.of(word, f"no such flag{hint or '; harness --help lists what there is'}")
    return found
