"""One command: names are checked, then Hydra composes, then values and rules are checked, then the action."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from harness.config.arguments import Arguments, parse_arguments
from harness.config.compose import Composer, base_config, custom_sections
from harness.config.conditional import OwnValues
from harness.config.experiment_file import check_experiments
from harness.config.groups import ConfigGroups
from harness.config.hydra_node import check_hydra_node
from harness.config.hydra_output import HydraFiles, hydra_files
from harness.config.jobs import sweep_jobs
from harness.config.messages import explain, format_mistake
from harness.config.overrides import PARAMS, CheckedOverrides, check_overrides, parse_override
from harness.config.point import Point
from harness.config.points import Composed, make_points
from harness.config.schema import section_fields
from harness.config.search_path import CONFIG_NAME, EXPERIMENTS
from harness.config.sweep_name import UNNAMED, folder_name
from harness.config.user_path import user_path
from harness.errors import ConfigError, HarnessError, Mistake

if TYPE_CHECKING:
    from omegaconf import DictConfig

Value = TypeVar("Value")
Action = Callable[[list[Point], str, HydraFiles], Value]
"""Takes the points, the sweep's name, and what else Hydra says of it; returns what `run` returns."""

Say = Callable[[Iterable[Mistake]], None]

# Flags with which Hydra shows something instead of running, whatever the overrides.
_UNCHECKED = ("--shell-completion", "-sc", "--hydra-help", "--info", "-i")
_SHOWN = ("--cfg", "-c")


@dataclass(frozen=True)
class Command:
    """A command that is composed and right.

    Attributes:
        points: in order, labelled.
        name: the sweep's.
        files: what Hydra would write of it, and the launcher.
        repeated: what has no effect, but is no reason to stop.
    """

    points: list[Point]
    name: str
    files: HydraFiles
    repeated: tuple[Mistake, ...] = ()

    def apply(self, action: Action[Value]) -> Value:
        """Return what an action makes of it, under the environment variables that it sets (`env_set`)."""
        from hydra.core.utils import env_override

        with env_override(self.files.config.hydra.job.env_set):
            return action(self.points, self.name, self.files)


def run(words: Sequence[str], action: Action[int]) -> int:
    """Compose the points of a command and pass them to `action`; or let Hydra show what its flags ask for.

    Args:
        words: flags and overrides, as typed.
        action: what is done with the points; its exit status is returned.

    Raises:
        ConfigError: with every mistake found in names and values.
    """
    from hydra.core.utils import configure_log
    from omegaconf import OmegaConf

    arguments = parse_arguments(words)
    groups = config_groups(arguments)
    if arguments.has(*_UNCHECKED):
        return _show(arguments, arguments.overrides, groups)
    if arguments.has(*_SHOWN):
        checked = check(arguments, groups)
        if checked.mistakes:
            raise ConfigError(checked.mistakes)
        return _show(arguments, [*custom_sections(checked.overrides)[1], *checked.overrides], groups)
    command = compose(arguments, groups)
    _say(command.repeated)
    configure_log(OmegaConf.create({"root": None}), command.files.config.hydra.verbose)
    return command.apply(action)


def compose(arguments: Arguments, groups: ConfigGroups | None = None) -> Command:
    """Compose and check the points of a command; nothing is printed, and no process-wide setting changed.

    Args:
        arguments: flags and overrides; flags with which Hydra shows something are not looked at.
        groups: those of the arguments, where they are known.

    Raises:
        ConfigError: with every mistake found in names and values.
    """
    groups = groups or config_groups(arguments)
    checked = check(arguments, groups)
    overrides = _with_mode(checked, arguments)
    if checked.sweeps and "hydra.mode=MULTIRUN" not in overrides:
        cure = "several values make a sweep: add -m; quote a value containing a comma"
        checked.mistakes += [Mistake(text, cure) for text in checked.sweeps]
        overrides = [text for text in overrides if text not in checked.sweeps]
    if "hydra.mode=MULTIRUN" not in overrides:
        params = (text for text in overrides if text.lstrip("+").startswith(PARAMS))
        checked.mistakes += [Mistake(text, "no effect without a sweep: add -m") for text in params]
    if checked.mistakes:
        raise ConfigError([*checked.mistakes, *_wrong_values(checked, overrides, groups)])
    config, composed, own_values = _compose(overrides, groups)
    files = hydra_files(config)
    points = make_points(composed, own_values)
    requested = points[0].sweep_name
    experiment = config.hydra.runtime.choices.get(EXPERIMENTS)
    name = folder_name(requested) if requested else str(experiment or UNNAMED)
    return Command(points, name, files, tuple(checked.repeated))


def one_point(words: Sequence[str], say: Say | None = None) -> Point:
    """Compose the single point of a command that runs no sweep.

    Args:
        words: flags and overrides, as typed.
        say: gets what has no effect, but is no reason to stop; printed when None.

    Raises:
        ConfigError: with every mistake found.
    """
    arguments = parse_arguments(words)
    groups = config_groups(arguments)
    checked = check(arguments, groups)
    message = "one value only: this command runs no sweep"
    if mistakes := checked.mistakes + [Mistake(text, message) for text in checked.sweeps]:
        raise ConfigError(mistakes)
    point = make_points(_compose([*checked.overrides, "hydra.mode=RUN"], groups)[1])[0]
    (say or _say)(checked.repeated)
    return point


def config_groups(arguments: Arguments) -> ConfigGroups:
    """Return the groups and choices that a command can name.

    Raises:
        ConfigError: `--config-dir` or an entry of `hydra.searchpath` is not a folder.
    """
    folder = arguments.config_dir
    if folder is not None and not user_path("--config-dir", folder).is_dir():
        raise ConfigError.of(f"--config-dir {folder}", "no such folder")
    more = [text for text in arguments.overrides if text.lstrip("+").startswith("hydra.searchpath=")]
    for text in more[-1:]:
        folders = parse_override(text).value()
        for entry in folders if isinstance(folders, list) else []:
            place = str(entry)
            if "://" in place and not place.startswith("file://"):
                continue
            if not user_path("hydra.searchpath", place.removeprefix("file://")).is_dir():
                raise ConfigError.of(f"hydra.searchpath: {place}", "no such folder; check the path")
    return ConfigGroups(folder, more[-1] if more else None)


def check(arguments: Arguments, groups: ConfigGroups) -> CheckedOverrides:
    """Check the names of a command and of its experiments, and that no two choices have the same name."""
    with _explained(groups):
        checked = check_overrides(arguments.overrides, groups)
        checked.mistakes[:0] = groups.duplicates()
        if in_experiments := check_experiments(checked.experiments, groups):
            checked.mistakes += in_experiments
            checked.faulty.add(EXPERIMENTS)
    return checked


def _say(repeated: Iterable[Mistake]) -> None:
    """Print what has no effect, but is no reason to stop: scripts put their own words behind others."""
    for mistake in repeated:
        print(format_mistake(mistake), file=sys.stderr)


def _with_mode(checked: CheckedOverrides, arguments: Arguments) -> list[str]:
    """The right overrides; `-m`, an experiment or cases make a sweep, unless `hydra.mode` says otherwise."""
    overrides = list(checked.overrides)
    multirun = arguments.has("-m", "--multirun")
    if multirun and "hydra.mode=RUN" in overrides:
        checked.mistakes.append(Mistake("hydra.mode=RUN", "contradicts -m; leave one of them out"))
        return overrides
    if not any(text.lstrip("+").startswith("hydra.mode=") for text in overrides):
        multirun |= bool(checked.experiments) or any(text.startswith("cases=") for text in overrides)
    return [*overrides, "hydra.mode=MULTIRUN"] if multirun else overrides


def _wrong_values(checked: CheckedOverrides, overrides: list[str], groups: ConfigGroups) -> list[Mistake]:
    """The mistakes in values, as far as they are certain in spite of the wrong names."""
    if EXPERIMENTS in checked.faulty:
        return []
    try:
        _, composed, own_values = _compose(overrides, groups)
        make_points(composed, own_values)
    except ConfigError as error:
        unsure = checked.faulty | ({"generation"} if "decoding" in checked.faulty else set())
        return [
            m for m in error.mistakes if m.key and m.key.partition(".")[0].partition("=")[0] not in unsure
        ]
    return []


def _compose(
    overrides: list[str], groups: ConfigGroups
) -> tuple[DictConfig, list[Composed], OwnValues | None]:
    """Hydra's config of the command, the config of each of its jobs, and what choices set by themselves."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    loader = groups.loader
    with _explained(groups):
        if _may_be_a_sweep(overrides, groups):
            config = loader.load_configuration(CONFIG_NAME, overrides, RunMode.MULTIRUN)
            _check_files(config, overrides, groups)
            if config.hydra.mode == RunMode.MULTIRUN:
                HydraConfig.instance().set_config(config)
                load = partial(loader.load_sweep_config, config)
                composer = Composer(load, groups.is_self_contained)
                own = partial(_own_values, composer, groups)
                return config, [composer.compose(job) for job in sweep_jobs(config, groups)], own
        if "hydra.mode=RUN" not in overrides:
            overrides = [*overrides, "hydra.mode=RUN"]
        custom, implied = custom_sections(overrides)
        config = loader.load_configuration(CONFIG_NAME, [*implied, *overrides], RunMode.RUN)
        _check_files(config, overrides, groups)
        HydraConfig.instance().set_config(config)
        base = base_config(config)
        return config, [Composed(base.config, base.choices, custom)], None


def _may_be_a_sweep(overrides: Sequence[str], groups: ConfigGroups) -> bool:
    """Whether the command says that it is one, or a file that is not built in may say so."""
    if "hydra.mode=RUN" in overrides:
        return False
    said = any(text.lstrip("+").startswith(("hydra.mode=", f"{EXPERIMENTS}=")) for text in overrides)
    return said or groups.has_files_of_the_user


def _own_values(composer: Composer, groups: ConfigGroups, section: str, choice: str) -> Mapping[str, Any]:
    """What a choice sets by itself; composed only where its file does not tell."""
    if choice not in groups.choices.get(section, ()):
        return {key: info.default for key, info in section_fields(section).items()}
    own = groups.own_values(section, choice)
    return composer.own_values(section, choice) if own is None else own


def _check_files(config: DictConfig, overrides: Sequence[str], groups: ConfigGroups) -> None:
    """Check what experiments and the user's choices set of Hydra's; the built-in files are right."""
    if groups.has_files_of_the_user or config.hydra.runtime.choices.get(EXPERIMENTS):
        check_hydra_node(config, overrides)


@contextmanager
def _explained(groups: ConfigGroups) -> Iterator[None]:
    """Turn what Hydra raises into a ConfigError of one line."""
    try:
        yield
    except (HarnessError, BrokenPipeError):
        raise
    except Exception as error:
        raise ConfigError(Mistake("", line) for line in explain(error, groups)) from error


def _show(arguments: Arguments, overrides: list[str], groups: ConfigGroups) -> int:
    """Let Hydra show what its flags ask for; returns the exit status."""
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import get_args_parser
    from hydra.types import RunMode

    parser = get_args_parser()
    flags = parser.parse_args([*overrides, *arguments.flags])
    sys.argv[0] = "harness"  # the name that a completion script is made for
    with _explained(groups):
        if not flags.shell_completion:  # which reads no logging config
            config = groups.loader.load_configuration(
                CONFIG_NAME, overrides, RunMode.RUN, validate_sweep_overrides=False
            )
            _check_files(config, overrides, groups)
        hydra = Hydra("harness", groups.loader)
        if flags.hydra_help:
            hydra.hydra_help(CONFIG_NAME, parser, flags)
        elif flags.cfg:
            hydra.show_cfg(CONFIG_NAME, overrides, flags.cfg, flags.package, flags.resolve)
        elif flags.info:
            hydra.show_info(flags.info, CONFIG_NAME, overrides)
        else:
            hydra.shell_completion(CONFIG_NAME, overrides)
    return 0
