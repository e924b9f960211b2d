"""One command through Hydra: names are checked, then Hydra composes, then values and rules, then the action.

Hydra is made to raise what it would print, so that every mistake ends as one line of ours.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.config import schema
from harness.config.arguments import Arguments, parse_arguments
from harness.config.compose import CONFIG_NAME, compose_one, custom_sections, sweep_name
from harness.config.experiment_file import check_experiments
from harness.config.hydra_output import HydraFiles, run_files
from harness.config.messages import explain
from harness.config.overrides import CheckedOverrides, check_overrides, parse_override
from harness.config.point import Point
from harness.config.points import EXPECT, Composed, make_points
from harness.config.search_path import EXPERIMENTS, ConfigGroups, conf_folder
from harness.errors import ConfigError, HarnessError, Mistake

if TYPE_CHECKING:
    from omegaconf import DictConfig

Action = Callable[[list[Point], str, HydraFiles], int]
"""Takes the points, the sweep's name and the files Hydra would write; returns the exit status."""

# Flags with which Hydra shows something instead of running; with the first ones it checks no overrides.
_UNCHECKED = ("--shell-completion", "-sc", "--hydra-help", "--info", "-i")
_SHOWS = (*_UNCHECKED, "--cfg", "-c")


class HydraTask:
    """The task function that Hydra calls with one config, or our launcher with a whole sweep.

    Args:
        action: what is done with the points.

    Attributes:
        status: the highest exit status so far.
        started: whether the action was reached, so the config was right.
        error: what ended a single run; kept here, since Hydra would print a message about it.
    """

    def __init__(self, action: Action) -> None:
        self.action = action
        self.status = 0
        self.started = False
        self.error: Exception | None = None

    def __call__(self, config: DictConfig) -> int:
        """Run the action on a sweep of one point."""
        try:
            return self._run_one(config)
        except Exception as error:
            self.error = error
            return 2

    def _run_one(self, config: DictConfig) -> int:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        hydra = HydraConfig.get()
        choices: dict[str, Any] = {str(k): v for k, v in hydra.runtime.choices.items()}
        plain = OmegaConf.to_container(config, resolve=True)
        assert isinstance(plain, dict)
        values = {str(key): plain[key] for key in plain if key in (*schema.sections(), EXPECT)}
        custom = custom_sections(list(hydra.overrides.task)).names
        files = run_files(config, cast("DictConfig", HydraConfig.instance().cfg))
        return self.run_sweep([Composed(values, choices, custom)], sweep_name(choices), files)

    def run_sweep(self, composed: Sequence[Composed], name: str, files: HydraFiles) -> int:
        """Run the action on a whole sweep.

        Raises:
            ConfigError: with every mistake in any of the configs.
        """
        points = make_points(composed)
        self.started = True
        status = self.action(points, name, files)
        self.status = max(self.status, status)
        return status


def run(words: Sequence[str], action: Action) -> int:
    """Compose the points of a command and pass them to `action`.

    Args:
        words: flags and overrides, as typed.
        action: what is done with the points; its exit status is returned.

    Raises:
        ConfigError: with every mistake found in names and values.
    """
    arguments = parse_arguments(words)
    groups = config_groups(arguments)
    if arguments.has(*_UNCHECKED):
        return _run_hydra(HydraTask(action), arguments, arguments.overrides, groups)
    checked = check(arguments, groups)
    shows = arguments.has(*_SHOWS)
    overrides = list(checked.overrides)
    if not shows and not _sets_mode(overrides) and (checked.experiments or _has_cases(overrides)):
        overrides.append("hydra.mode=MULTIRUN")
    mistakes = [*checked.mistakes]
    if checked.sweeps and not _is_multirun(arguments, overrides) and not shows:
        cure = "several values make a sweep: add -m; quote a value containing a comma"
        mistakes += [Mistake(text, cure) for text in checked.sweeps]
        overrides = [text for text in overrides if text not in checked.sweeps]
    if mistakes:
        raise ConfigError([*mistakes, *_wrong_values(checked, arguments, overrides, groups)])
    return _run_hydra(HydraTask(action), arguments, overrides, groups)


def one_point(words: Sequence[str]) -> Point:
    """Compose the single point of a command that runs no sweep.

    Raises:
        ConfigError: with every mistake found.
    """
    arguments = parse_arguments(words)
    groups = config_groups(arguments)
    checked = check(arguments, groups)
    message = "one value only: this command runs no sweep"
    if mistakes := checked.mistakes + [Mistake(text, message) for text in checked.sweeps]:
        raise ConfigError(mistakes)
    try:
        composed = compose_one(groups, checked.overrides)
    except HarnessError:
        raise
    except Exception as error:
        raise ConfigError(Mistake("", line) for line in explain(error, groups)) from error
    return make_points([composed])[0]


def config_groups(arguments: Arguments) -> ConfigGroups:
    """Return the groups and choices that a command can name.

    Raises:
        ConfigError: `--config-dir` is not a folder.
    """
    folder = arguments.config_dir
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError.of(f"--config-dir {folder}", "no such folder")
    more: list[str] = []
    for text in arguments.overrides:
        if text.lstrip("+").startswith("hydra.searchpath="):
            value = parse_override(text).value()
            more += [str(entry) for entry in value] if isinstance(value, list) else []
    return ConfigGroups(folder, tuple(more))


def check(arguments: Arguments, groups: ConfigGroups) -> CheckedOverrides:
    """Check the names of a command and of its experiments, and that no two choices have the same name."""
    checked = check_overrides(arguments.overrides, groups)
    checked.mistakes[:0] = groups.duplicates()
    if in_experiments := check_experiments(checked.experiments, groups):
        checked.mistakes += in_experiments
        checked.faulty.add(EXPERIMENTS)
    return checked


def _wrong_values(
    checked: CheckedOverrides, arguments: Arguments, overrides: list[str], groups: ConfigGroups
) -> list[Mistake]:
    """The mistakes in values, as far as they are certain in spite of the wrong names."""
    if EXPERIMENTS in checked.faulty:
        return []
    try:
        _run_hydra(HydraTask(lambda *_: 0), arguments, overrides, groups)
    except ConfigError as error:
        unsure = checked.faulty | ({"generation"} if "decoding" in checked.faulty else set())
        return [
            m for m in error.mistakes if m.key and m.key.partition(".")[0].partition("=")[0] not in unsure
        ]
    return []


def _run_hydra(task: HydraTask, arguments: Arguments, overrides: list[str], groups: ConfigGroups) -> int:
    """Let Hydra compose and run `task`; returns the exit status."""
    if not _is_multirun(arguments, overrides):  # the jobs of a sweep get theirs when each is composed
        overrides = [*custom_sections(overrides).implied, *overrides]
    import hydra

    schema.register()
    main = hydra.main(config_path=str(conf_folder()), config_name=CONFIG_NAME, version_base="1.3")
    with _hydra_environment([*arguments.flags, *overrides]):
        try:
            main(task)()
            if task.error is not None:
                raise task.error
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 2 if end.code else 0
        except HarnessError:
            raise
        except Exception as error:
            if task.started:
                raise
            raise ConfigError(Mistake("", line) for line in explain(error, groups)) from error
    return task.status


@contextlib.contextmanager
def _hydra_environment(words: list[str]) -> Iterator[None]:
    """Give `hydra.main` its command line, and let it raise what it would print.

    It has no arguments for either: it reads the process's own command line and HYDRA_FULL_ERROR.
    """
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # Completion scripts are made for the name in argv[0].
    sys.argv = ["harness", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error


def _is_multirun(arguments: Arguments, overrides: list[str]) -> bool:
    return arguments.has("-m", "--multirun") or "hydra.mode=MULTIRUN" in overrides


def _sets_mode(overrides: list[str]) -> bool:
    return any(text.lstrip("+").startswith("hydra.mode=") for text in overrides)


def _has_cases(overrides: list[str]) -> bool:
    return any(text.startswith("cases=") for text in overrides)
