"""One command through Hydra: names checked first, then composed, then values and rules, then the action.

Hydra raises always (HYDRA_FULL_ERROR is set for the time), so that every mistake ends as one line of ours.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.config.arguments import Arguments, take_apart
from harness.config.compose import CONFIG_NAME, Composed, compose_one
from harness.config.custom_sources import sources_of
from harness.config.hydra_command import Action, Command
from harness.config.messages import explain
from harness.config.overrides import Checked, check_overrides, parse
from harness.config.places import conf_folder
from harness.config.point import Point
from harness.config.points import make_points
from harness.config.search_path import Catalog
from harness.errors import ConfigError, HarnessError, Mistake

# Flags with which Hydra shows something and composes no run of ours.
SHOWS = ("--shell-completion", "-sc", "--hydra-help", "--info", "-i", "--cfg", "-c")


def run(words: Sequence[str], action: Action) -> int:
    """Compose what `words` say and give the points to `action`.

    Args:
        words: flags and overrides, as typed.
        action: what is done with the points; its exit status is returned.

    Raises:
        ConfigError: with every mistake found in names and values.
    """
    arguments = take_apart(words)
    catalog = catalog_of(arguments)
    if arguments.has("--shell-completion", "-sc", "--hydra-help", "--info", "-i"):
        _complete_after_a_word()
        return _hydra(Command(action), arguments, arguments.overrides, catalog)
    checked = check(arguments, catalog)
    shows = arguments.has(*SHOWS)
    overrides = list(checked.overrides)
    if not shows and not _mode_given(overrides) and (checked.experiments or _has_cases(overrides)):
        overrides.append("hydra.mode=MULTIRUN")
    mistakes = [*checked.mistakes]
    if checked.sweeps and not _multirun(arguments, overrides) and not shows:
        cure = "several values make a sweep, which needs -m; a text that holds a comma needs quotes"
        mistakes += [Mistake(text, cure) for text in checked.sweeps]
        overrides = [text for text in overrides if text not in checked.sweeps]
    if mistakes:
        mistakes += _other_mistakes(checked, arguments, overrides, catalog)
        raise ConfigError(mistakes)
    return _hydra(Command(action), arguments, overrides, catalog)


def one_point(words: Sequence[str]) -> Point:
    """The point that some overrides make, for the words that run no sweep.

    Raises:
        ConfigError: with every mistake found.
    """
    arguments = take_apart(words)
    catalog = catalog_of(arguments)
    checked = check(arguments, catalog)
    mistakes = checked.mistakes + [
        Mistake(text, "one value only, this runs no sweep") for text in checked.sweeps
    ]
    if mistakes:
        raise ConfigError(mistakes)
    with _raising():
        try:
            composed: Composed = compose_one(catalog, checked.overrides)
        except HarnessError:
            raise
        except Exception as error:
            raise ConfigError(Mistake("", line) for line in explain(error, catalog)) from error
    return make_points([composed])[0]


def catalog_of(arguments: Arguments) -> Catalog:
    """The groups and choices that a command can name.

    Raises:
        ConfigError: `--config-dir` is no folder, or holds a choice that there is already.
    """
    folder = arguments.config_dir
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError.of(f"--config-dir {folder}", "no such folder")
    more: list[str] = []
    for text in arguments.overrides:
        if text.lstrip("+").startswith("hydra.searchpath="):
            value = parse(text).value()
            more += [str(entry) for entry in value] if isinstance(value, list) else []
    return Catalog(folder, tuple(more))


def check(arguments: Arguments, catalog: Catalog) -> Checked:
    """The names of a command, and whether any two things have one name."""
    checked = check_overrides(arguments.overrides, catalog)
    checked.mistakes[:0] = catalog.clashes()
    return checked


def _other_mistakes(
    checked: Checked, arguments: Arguments, overrides: list[str], catalog: Catalog
) -> list[Mistake]:
    """What is wrong with the values, as far as the wrong names leave it certain."""
    if "experiments" in checked.faulty:
        return []
    try:
        _hydra(Command(lambda *what: 0), arguments, overrides, catalog)
    except ConfigError as error:
        unsure = checked.faulty | ({"generation"} if "decoding" in checked.faulty else set())
        return [
            m for m in error.mistakes if m.key and m.key.partition(".")[0].partition("=")[0] not in unsure
        ]
    return []


def _hydra(command: Command, arguments: Arguments, overrides: list[str], catalog: Catalog) -> int:
    """Let Hydra compose and run `command`; the exit status."""
    if not _multirun(arguments, overrides):  # of a sweep, each job's are seen when it is composed
        overrides = [*sources_of(overrides).implied, *overrides]
    import hydra

    from harness.config import schema

    schema.register()
    main = hydra.main(config_path=str(conf_folder()), config_name=CONFIG_NAME, version_base="1.3")
    with _raising(), _argv([*arguments.flags, *overrides]):
        try:
            main(command)()
            if command.error is not None:
                raise command.error
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 2 if end.code else 0
        except HarnessError:
            raise
        except Exception as error:
            if command.started:
                raise
            raise ConfigError(Mistake("", line) for line in explain(error, catalog)) from error
    return command.status


@contextlib.contextmanager
def _raising() -> Iterator[None]:
    """Hydra raises what it would print."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextlib.contextmanager
def _argv(words: list[str]) -> Iterator[None]:
    """`hydra.main` reads the process's own arguments."""
    before = sys.argv
    # Completion scripts are made for the name in argv[0].
    sys.argv = ["harness", *words]
    try:
        yield
    finally:
        sys.argv = before


def _complete_after_a_word() -> None:
    """Completion knows Hydra's command lines only: take our word out of the line that is completed."""
    from harness.cli.help import WORDS

    line = os.environ.get("COMP_LINE", "").split(" ")
    if len(line) > 2 and line[1] in WORDS:
        os.environ["COMP_LINE"] = " ".join([line[0], *line[2:]])


def _multirun(arguments: Arguments, overrides: list[str]) -> bool:
    return arguments.has("-m", "--multirun") or "hydra.mode=MULTIRUN" in overrides


def _mode_given(overrides: list[str]) -> bool:
    return any(text.lstrip("+").startswith("hydra.mode=") for text in overrides)


def _has_cases(overrides: list[str]) -> bool:
    return any(text.startswith("cases=") for text in overrides)
