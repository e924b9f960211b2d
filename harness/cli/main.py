"""The command line. A bare first word is a command of ours, everything else is Hydra's."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from harness import __version__
from harness.cli.early_line import early_line
from harness.cli.generate_arguments import generate_arguments
from harness.cli.inspect_arguments import inspect_arguments
from harness.cli.replay_arguments import replay_arguments
from harness.config import hydra_app as app
from harness.config.arguments import parse_arguments
from harness.config.hydra_output import HydraFiles
from harness.config.messages import explain
from harness.config.point import Point
from harness.config.search_path import EXPERIMENTS
from harness.config.secret_text import without_secrets
from harness.config.suggest import did_you_mean
from harness.errors import ConfigError, HarnessError
from harness.garbage import collect_seldom, postpone_collection
from harness.terminal import ReaderGoneError, visible_streams

FULL_ERROR = "HYDRA_FULL_ERROR"
_HELP = ("--help", "-h")
LLM_PERF = "--llm-perf"
"""Of `harness report`: write llm_perf.csv, too."""
# What other tools call what needs no word here.
_NO_WORDS = ("run", "sweep", "multirun", "start", "launch", "exec", "execute", "compare")


class Command(NamedTuple):
    """What a command does with the words after it, and its line in `harness --help`."""

    run: Callable[[list[str]], int]
    usage: str


def _bound_spinning() -> None:
    """Let OpenMP's threads wait for the next operation in a loop for a fifth of a millisecond, then asleep.

    A step has thousands of short operations: threads that sleep between them cost it a third more time. By
    default they wait in a loop for 15 ms (GNU's OpenMP) or 200 ms (LLVM's), which takes a machine with other
    work four times as long. Read when torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
        os.environ.setdefault("KMP_BLOCKTIME", "1")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `harness`; the process's own when None.

    Returns:
        The exit status: 0 all done, 1 some failed or an expectation was missed, 2 the command is wrong, 130
        or 143 interrupted.
    """
    if argv is None:
        collect_seldom()
        _bound_spinning()
        try:
            return main(sys.argv[1:])
        finally:
            gc.freeze()  # the interpreter looks at everything before it ends, which takes two seconds
    words = list(argv)
    slow = words[:1] not in (["help"], ["--version"]) and not {"--help", "-h"} & set(words)
    with early_line("starting ..." if slow else ""), visible_streams(), _terminable() as terminated:
        try:
            status = _run_interruptibly(words)
            sys.stdout.flush()
        except HarnessError as error:
            _print_traceback()
            if terminated:
                return _interrupted(terminated)
            for line in explain(error):
                print(line, file=sys.stderr)
            return error.exit_status
        except KeyboardInterrupt:
            return _interrupted(terminated)
        except (BrokenPipeError, ReaderGoneError) as error:
            # The reader of our output has gone, as in `harness --help | head -1`; a sweep is not complete.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0 if isinstance(error, BrokenPipeError) or words[0] in COMMANDS else 1
        except Exception as error:
            # A defect of ours or of a library: one line too, since the lines above it show what was done.
            _print_traceback()
            if terminated:
                return _interrupted(terminated)
            text = without_secrets(" ".join(str(error).split()))
            print(f"unexpected {type(error).__name__}: {text} ({FULL_ERROR}=1 shows where)", file=sys.stderr)
            return 1
    return 143 if terminated and status else status


def _interrupted(terminated: Sequence[int]) -> int:
    print("\ninterrupted", file=sys.stderr)
    return 143 if terminated else 130


def _print_traceback() -> None:
    if os.environ.get(FULL_ERROR) == "1":
        print(without_secrets(traceback.format_exc()), end="", file=sys.stderr)


@contextmanager
def _terminable() -> Iterator[list[int]]:
    """Let SIGTERM raise what Ctrl-C does, so that cleanup runs; yields the signals received."""
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield received
        return
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_interruptibly(words: list[str]) -> int:
    """Run a command; the error of a library that was interrupted in its midst is the interrupt."""
    try:
        return _run(words)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, KeyboardInterrupt):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise


def _run(words: list[str]) -> int:
    first, rest = (words[0], words[1:]) if words else ("", [])
    if any(word in _HELP for word in words):
        return _help([first] if first in COMMANDS else [])
    if first == "--version":
        from importlib.metadata import version

        print(f"harness {__version__} (Hydra {version('hydra-core')})")
        return 0
    if first and first[0] not in "-+~" and "=" not in first:
        if first in _NO_WORDS:
            raise ConfigError.of(first, f"leave the word out: {_without_word(first, rest)}")
        if first not in COMMANDS:
            hint = did_you_mean(first, [*COMMANDS, "model=", "decoding="])
            raise ConfigError.of(first, f"unknown command{hint} (commands: {', '.join(COMMANDS)})")
        return COMMANDS[first].run(rest)
    late = next((word for word in words if word in COMMANDS), None)
    if late is not None:
        command = shlex.join(["harness", late, *(word for word in words if word != late)])
        raise ConfigError.of(late, f"a command must come first: {command}")
    if "-sc" in words or "--shell-completion" in words:
        _complete_after_a_command()
    postpone_collection()
    return app.run(words, _run_sweep)


def _without_word(word: str, rest: Sequence[str]) -> str:
    """The command that is meant by `harness run ...` or `harness sweep ...`."""
    several = any(
        "," in value and value[:1] not in "[{'\"" for _, _, value in (one.partition("=") for one in rest)
    )
    sweeps = several or word in ("sweep", "multirun")
    named = any(one in ("-m", "--multirun") or one.startswith(f"{EXPERIMENTS}=") for one in rest)
    return shlex.join(["harness", *(["-m"] if sweeps and not named else []), *rest])


def _complete_after_a_command() -> None:
    """Remove our command from the line that is completed: Hydra completes only its own arguments."""
    line = os.environ.get("COMP_LINE", "").split(" ")
    if len(line) > 2 and line[1] in COMMANDS:
        os.environ["COMP_LINE"] = " ".join([line[0], *line[2:]])


# Each command imports what it needs itself, so that those without a model answer at once.


def _run_sweep(points: list[Point], name: str, files: HydraFiles) -> int:
    from harness.run.sweep import run_sweep

    if files.launcher is None:
        return run_sweep(points, name, files)
    from harness.run.launchers import launch_of

    return run_sweep(points, name, files, launch_of(files.launcher, points))


def _plan(words: list[str]) -> int:
    from harness.cli.show_plan import show_plan

    return app.run(words, lambda points, name, files: show_plan(points, name, files.launcher))


def _check(words: list[str]) -> int:
    from harness.cli.show_plan import show_check

    return app.run(words, lambda points, name, files: show_check(points, name, files.launcher))


def _inspect(words: list[str]) -> int:
    arguments = inspect_arguments(words)
    point = app.one_point(arguments.overrides)
    if point.backend.kind != "hf":
        message = "inspect reads the model with transformers, in this process; use backend=hf"
        raise ConfigError.of(f"backend={point.backend.name}", message)
    postpone_collection()
    from harness.cli.inspect import inspect

    return inspect(point, arguments)


def _generate(words: list[str]) -> int:
    arguments = generate_arguments(words)
    point = app.one_point(arguments.overrides)
    postpone_collection()
    from harness.cli.generate import generate

    return generate(point, arguments)


def _replay(words: list[str]) -> int:
    arguments = replay_arguments(words)
    from harness.cli.replay import find_samples, show_replay
    from harness.store.files import outputs_folder

    stored, name = find_samples(outputs_folder(), arguments.point)
    point = app.one_point(arguments.applied_to(stored.config()["requested"]["decoding"]))
    return show_replay(stored, name, point.decoding, as_json=arguments.as_json)


def _report(words: list[str]) -> int:
    from harness.report import write
    from harness.tracking.assessments import update_feedback

    files = [word.removeprefix("votes=") for word in words if word.startswith("votes=")]
    others = [word for word in words if not word.startswith("votes=") and word != LLM_PERF]
    sweep = _sweep_argument("report", others)
    if files:
        from harness.store.files import outputs_folder
        from harness.store.sweeps import find_sweep
        from harness.store.votes import add_ballot, read_ballot

        for name in files:
            ballot = read_ballot(name)
            found = find_sweep(outputs_folder(), sweep or ballot.sweep_id)
            add_ballot(found, ballot, name)
            sweep = found.folder.name
    update_feedback(sweep)
    return write(sweep, llm_perf=LLM_PERF in words)


def _sync(words: list[str]) -> int:
    from harness.tracking.sync import sync

    return sync(_sweep_argument("sync", words))


def _ui(words: list[str]) -> int:
    from harness.cli.ui import serve

    return serve(words)


def _doctor(words: list[str]) -> int:
    if words:
        point = app.one_point(words)
        from harness.cli.server_doctor import server_doctor

        return server_doctor(point)
    from harness.cli.doctor import doctor

    return doctor()


def _worker(words: list[str]) -> int:
    postpone_collection()
    from harness.cli.worker import worker

    return worker(words)


def _help(words: list[str]) -> int:
    from harness.cli.help import describe, overview

    usage = {name: command.usage for name, command in COMMANDS.items()}
    arguments = parse_arguments(words)
    groups = app.config_groups(arguments)
    name = " ".join(arguments.overrides)  # `harness help kept mass`, as it is displayed
    print(describe(name, groups, usage) if name else overview(groups, usage))
    return 0


COMMANDS = {
    "plan": Command(
        _plan, "[overrides]  points, groups, loads, what is done already, memory and tokens to come"
    ),
    "check": Command(_check, "[overrides]  compose and check only; every mistake in one line"),
    "inspect": Command(
        _inspect,
        'model=M prompt="..." [steps=N] [--json] [--page]  next-token tables, or a page',
    ),
    "generate": Command(
        _generate,
        'model=M prompt="..." decoding=... [--json]  a text, streamed to the terminal, not stored',
    ),
    "replay": Command(
        _replay, "POINT decoding=... [--json]  stored samples under another decoding, without the model"
    ),
    "report": Command(
        _report, "[SWEEP] [votes=FILE] [--llm-perf]  write the comparison again from the store"
    ),
    "sync": Command(_sync, "[SWEEP]  send MLflow what it missed"),
    "ui": Command(_ui, "[--port N]  open the MLflow UI on this project's store"),
    "doctor": Command(_doctor, "[backend=SERVER ...]  what this machine, or a server, really offers"),
    "worker": Command(_worker, "SWEEP --group K  run one group of a planned sweep (launchers start it)"),
    "help": Command(
        _help, "[NAME]  this text; or what a group, choice, key or metric is; `metrics` lists all"
    ),
}


def _sweep_argument(command: str, words: list[str]) -> str | None:
    """The sweep that `report` or `sync` was given, if any."""
    _no_more_arguments(command, words[1:])
    if words and (words[0].startswith("-") or "=" in words[0]):
        raise ConfigError.of(words[0], f"`harness {command}` takes the name or id of a sweep, or nothing")
    return words[0] if words else None


def _no_more_arguments(command: str, words: list[str]) -> None:
    if words:
        raise ConfigError.of(" ".join(words), f"`harness {command}` takes no more arguments; remove it")
