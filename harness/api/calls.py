"""The functions of the API: a command each, with its keys as keywords, returning what the command prints."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.call_launch import launch_of_call
from harness.api.code_reference import code_reference
from harness.api.guest import guest
from harness.api.keywords import Overrides, overrides_of
from harness.api.session import kept_backends
from harness.api.trial import TrialFolder
from harness.config.arguments import Arguments, parse_arguments
from harness.config.hydra_app import Command, compose, one_point
from harness.errors import ConfigError, HarnessError, Mistake
from harness.store.files import outputs_at

if TYPE_CHECKING:
    from harness.api.inspection import InspectionView
    from harness.api.plan_view import Checked, PlanView
    from harness.api.replayed import ReplayView
    from harness.api.result import PointView, Result
    from harness.api.text_view import Texts
    from harness.config.point import Point

Folder = str | Path | None


class HarnessWarning(UserWarning):
    """What has no effect in a call, but is no reason to stop."""


def sweep(
    overrides: Overrides = (),
    /,
    *,
    quiet: bool = False,
    store: bool = True,
    outputs: Folder = None,
    config_dir: Folder = None,
    **keys: Any,
) -> Result:
    """Run a sweep: every combination of the values; what the store has already is not run again.

        harness.sweep(model="fable_small", decoding=["greedy", "top_p"], generation={"max_new_tokens": 32})

    A list is several values, of which each makes a point; of a key that takes a list it is that list, and a
    list of lists several of them. Strings arrive as they are. Python functions stand for `FILE.py:NAME`.

    Args:
        overrides: overrides as on the command line, one or a list of them, or a mapping like `keys`.
        quiet: no progress is shown.
        store: False keeps the results in a temporary folder, as long as the Result lives, untracked; then
            lambdas and functions of a notebook are allowed too.
        outputs: folder of the store; `HARNESS_OUTPUTS` or `./outputs` when None.
        config_dir: a folder with config groups of one's own.
        keys: the command line's, dotted (`**{"generation.seed": 1}`) or nested (`generation={"seed": 1}`).

    Returns:
        The results. Points that failed are in `Result.failed`; `raise_for_failures()` raises of them.

    Raises:
        ConfigError: with every mistake; nothing was loaded.
        StoreError: the store cannot be written any more; what is stored is complete.
        KeyboardInterrupt: it was interrupted; what is done is kept, and the same call goes on from there.
    """
    trial = _trial(store, outputs, overrides, keys)
    with _call(trial.outputs if trial else outputs):
        command = _composed(overrides, keys, config_dir, trial)
        from harness.api.result import Result
        from harness.report.console import SafeConsole
        from harness.run.sweep import run_points

        console = SafeConsole(highlight=True, quiet=quiet)
        run = command.apply(
            lambda points, name, files: run_points(
                points, name, files, launch_of_call(command, trial), console
            )
        )
        if run is None:
            raise ConfigError.of(
                "hydra.launcher.wait=false",
                "the sweep is submitted; load() returns its results later",
            )
        return Result(run.sweep, run.written, trial)


def plan(
    overrides: Overrides = (),
    /,
    *,
    quiet: bool = True,
    outputs: Folder = None,
    config_dir: Folder = None,
    **keys: Any,
) -> PlanView:
    """Return what `sweep` would do with the same arguments: points, groups, what is stored already.

    Nothing is loaded, and nothing printed, `quiet` or not.

    Raises:
        ConfigError: with every mistake.
    """
    with _call(outputs):
        command = _composed(overrides, keys, config_dir)
        from harness.api.plan_view import PlanView
        from harness.plan.plan import make_plan
        from harness.run.launchers import device_of

        launcher = command.files.launcher
        return command.apply(
            lambda points, name, files: PlanView(make_plan(points, name, device_of(launcher)), launcher)
        )


def check(
    overrides: Overrides = (),
    /,
    *,
    quiet: bool = True,
    outputs: Folder = None,
    config_dir: Folder = None,
    **keys: Any,
) -> Checked:
    """Check the arguments of `sweep`; nothing is loaded, and nothing printed, `quiet` or not.

    Raises:
        ConfigError: with every mistake.
    """
    with _call(outputs):
        command = _composed(overrides, keys, config_dir)
        from harness.api.plan_view import checked
        from harness.plan.plan import make_plan
        from harness.run.launchers import device_of

        device = device_of(command.files.launcher)
        return command.apply(lambda points, name, files: checked(make_plan(points, name, device)))


def load(sweep: str | None = None, *, outputs: Folder = None) -> Result:
    """Return the results of a sweep that was run before.

    Args:
        sweep: its folder's name, title or id; the last one when None.
        outputs: folder of the store.

    Raises:
        ConfigError: there is no such sweep, or several match.
    """
    with _call(outputs):
        from harness.api.result import Result
        from harness.store.files import outputs_folder
        from harness.store.sweeps import find_sweep

        return Result(find_sweep(outputs_folder(), sweep))


def generate(
    prompt: str = "",
    overrides: Overrides = (),
    /,
    *,
    prompt_id: str = "",
    config_dir: Folder = None,
    **keys: Any,
) -> Texts:
    """Return the texts that a model makes of one prompt, a sample each; nothing is stored.

        harness.generate("Once upon a time", model="fable_small", decoding="top_p")

    They are those that a sweep would store of the prompt.

    Args:
        prompt: exactly as it is.
        overrides: as in `sweep`.
        prompt_id: the row of the prompt set that is meant, in place of a prompt.
        config_dir: a folder with config groups of one's own.
        keys: as in `sweep`, one value each.

    Raises:
        ConfigError: with every mistake.
        HarnessError: the model cannot be loaded, or a sample failed.
    """
    with _call(None):
        from harness.api.one_prompt import generated
        from harness.cli.generate_arguments import generate_arguments

        words = _prompt_words(prompt, prompt_id)
        arguments = generate_arguments([*overrides_of(overrides, keys, code_reference), *words])
        point = _point(arguments.overrides, config_dir)
        return generated(point, arguments, kept_backends())


def inspect(
    prompt: str = "",
    overrides: Overrides = (),
    /,
    *,
    steps: int = 1,
    top_k: int = 10,
    prompt_id: str = "",
    config_dir: Folder = None,
    **keys: Any,
) -> InspectionView:
    """Return the tokens of a prompt, and the next token's distribution, step by step; nothing is stored.

    Args:
        prompt: exactly as it is.
        overrides: as in `sweep`.
        steps: tokens to decode.
        top_k: candidates of each step.
        prompt_id: the row of the prompt set that is meant, in place of a prompt.
        config_dir: a folder with config groups of one's own.
        keys: as in `sweep`, one value each.

    Raises:
        ConfigError: with every mistake.
    """
    with _call(None):
        from harness.cli.inspect_arguments import inspect_arguments

        words = [f"steps={steps}", f"top_k={top_k}", *_prompt_words(prompt, prompt_id)]
        arguments = inspect_arguments([*overrides_of(overrides, keys, code_reference), *words])
        point = _point(arguments.overrides, config_dir)
        if point.backend.kind != "hf":
            message = "inspect reads the model with transformers, in this process; use backend=hf"
            raise ConfigError.of(f"backend={point.backend.name}", message)
        from harness.api.inspection import InspectionView
        from harness.cli.inspect import inspect_prompt

        return InspectionView(inspect_prompt(point, arguments))


def replay(
    point: str | PointView,
    overrides: Overrides = (),
    /,
    *,
    outputs: Folder = None,
    config_dir: Folder = None,
    **keys: Any,
) -> ReplayView:
    """Return what another decoding would have made of a point's stored samples, without the model.

        harness.replay(result["fable_small/none/top_p"], decoding={"top_p": 0.8})

    Args:
        point: one of a Result, or its id, the beginning of it, or its label.
        overrides: as in `sweep`, of the decoding only.
        outputs: folder of the store; that of the point where it is one of a Result.
        config_dir: a folder with config groups of one's own.
        keys: as in `sweep`, of the decoding only, one value each.

    Raises:
        ConfigError: there is no such point, or replay does not support the strategy.
    """
    if not isinstance(point, str):
        outputs = outputs if outputs is not None or point.folder is None else point.folder.parent.parent
        point = point.point_id
    with _call(outputs):
        from harness.api.replayed import ReplayView
        from harness.cli.replay import find_samples
        from harness.cli.replay import replay as replay_point
        from harness.cli.replay_arguments import replay_arguments
        from harness.store.files import outputs_folder

        arguments = replay_arguments([point, *overrides_of(overrides, keys, code_reference)])
        stored, name = find_samples(outputs_folder(), arguments.point)
        other = _point(arguments.applied_to(stored.config()["requested"]["decoding"]), config_dir)
        return ReplayView(replay_point(stored, name, other.decoding))


@contextmanager
def _call(outputs: Folder) -> Iterator[None]:
    """One call: by itself in this process, which it leaves as it was; `outputs` is its store if given."""
    with guest():
        if outputs is None:
            yield
            return
        with outputs_at(Path(outputs).expanduser().absolute()):
            yield


def _trial(store: bool, outputs: Folder, overrides: Overrides, keys: Any) -> TrialFolder | None:
    """The temporary store of a call that keeps nothing; None where it is stored.

    Raises:
        ConfigError: something else is asked that needs a store.
    """
    if store:
        return None
    if outputs is not None:
        raise ConfigError.of(f"outputs={outputs}", "no effect with store=False; leave one of them out")
    given = {} if not isinstance(overrides, Mapping) else overrides
    words = [overrides] if isinstance(overrides, str) else [] if given else list(overrides)
    words += [f"{key}={value}" for key, value in (*given.items(), *keys.items())]
    if any(str(word).startswith("tracking") and word != "tracking=off" for word in words):
        raise ConfigError.of("tracking", "nothing of a trial is kept; leave it out, or store=False")
    return TrialFolder()


def _composed(
    overrides: Overrides, keys: Any, config_dir: Folder, trial: TrialFolder | None = None
) -> Command:
    words = overrides_of(overrides, keys, trial.reference if trial else code_reference)
    if trial is not None and not {"tracking=off", 'tracking="off"'} & set(words):
        words.append("tracking=off")
    command = compose(_arguments(words, config_dir, ["-m"]))
    _warn(command.repeated, 4)
    return command


def _point(overrides: list[str], config_dir: Folder) -> Point:
    arguments = _arguments(overrides, config_dir, [])
    return one_point([*arguments.flags, *arguments.overrides], _warn)


def _arguments(words: list[str], config_dir: Folder, flags: list[str]) -> Arguments:
    """Return a call as the command line has it.

    Raises:
        ConfigError: a flag is among the overrides.
    """
    wrong = [Mistake(word, "is a flag of the command line; give a key") for word in words if word[:1] == "-"]
    if wrong:
        raise ConfigError(wrong)
    folder = [] if config_dir is None else ["--config-dir", str(config_dir)]
    return parse_arguments([*folder, *flags, *words])


def _prompt_words(prompt: str, prompt_id: str) -> list[str]:
    """The words of a prompt; none that is empty."""
    if not isinstance(prompt, str):
        raise HarnessError(f"prompt: {prompt!r:.40} is not a text")
    given = {"prompt_id": prompt_id, "prompt": prompt}
    return [f"{key}={value}" for key, value in given.items() if value]


def _warn(repeated: Iterable[Mistake], depth: int = 5) -> None:
    """Warn at the line of the call, so many functions above."""
    for mistake in repeated:
        warnings.warn(str(mistake), HarnessWarning, stacklevel=depth)
