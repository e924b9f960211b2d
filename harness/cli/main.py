"""The words of the command line. A bare first word is ours, everything else is Hydra's."""

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

from harness import __version__
from harness.cli.inspect_arguments import inspect_arguments
from harness.cli.replay_arguments import replay_arguments
from harness.config import hydra_app as app
from harness.config.arguments import take_apart
from harness.config.hydra_output import HydraFiles
from harness.config.messages import explain
from harness.config.point import Point
from harness.config.suggest import did_you_mean
from harness.errors import ConfigError, HarnessError

FULL_ERROR = "HYDRA_FULL_ERROR"


class Terminated(KeyboardInterrupt):
    """SIGTERM: like Ctrl-C to whoever cleans up, but another exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `harness`; the process's own when None.

    Returns:
        The exit status: 0 all done, 1 some failed or an expectation was missed, 2 the command is wrong, 130
        or 143 interrupted.
    """
    if argv is None:
        with _few_collections():
            return main(sys.argv[1:])
    words = list(argv)
    # Read by OpenMP when torch is loaded: threads that spin while they wait make a busy machine crawl.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    wants_traceback = os.environ.get(FULL_ERROR) == "1"
    with _terminable() as terminated:
        try:
            status = _run(words)
        except HarnessError as error:
            if wants_traceback:
                traceback.print_exc()
            _complain(error)
            return error.exit_status
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            return 143 if terminated else 130
        except BrokenPipeError:
            # Whoever read our output has gone, as in `harness --help | head -1`.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except Exception as error:
            # A defect of ours or of a library: one line too, since the lines above it tell what was done.
            if wants_traceback:
                traceback.print_exc()
            said = " ".join(str(error).split())
            print(f"unexpected {type(error).__name__}: {said} ({FULL_ERROR}=1 shows where)", file=sys.stderr)
            return 1
    return 143 if terminated and status == 130 else status


@contextmanager
def _few_collections() -> Iterator[None]:
    """Spare a process of its own the garbage collector's walks over all that torch and MLflow define.

    With the thresholds it starts with, a fifth of the time that imports take goes there, and two seconds at
    the end of a run, when everything is walked over again only to be thrown away.
    """
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.freeze()


def _run(words: list[str]) -> int:
    first, rest = (words[0], words[1:]) if words else ("", [])
    if any(word in ("--help", "-h") for word in words):
        return _help([])
    if first == "--version":
        return _version()
    if first and first[0] not in "-+~" and "=" not in first:
        if first not in WORDS:
            known = [*WORDS, *(f"{name}=" for name in ("model", "decoding"))]
            raise ConfigError.of(
                first, f"no such word{did_you_mean(first, known)} (words: {', '.join(WORDS)})"
            )
        return WORDS[first](rest)
    late = next((word for word in words if word in WORDS), None)
    if late is not None:
        command = shlex.join(["harness", late, *(word for word in words if word != late)])
        raise ConfigError.of(late, f"a word of the harness stands first: {command}")
    return app.run(words, _run_sweep)


def _run_sweep(points: list[Point], name: str, files: HydraFiles) -> int:
    from harness.run.sweep import run_sweep

    return run_sweep(points, name, files)


def _plan(words: list[str]) -> int:
    def show(points: list[Point], name: str, files: HydraFiles) -> int:
        from harness.cli.show_plan import show_plan

        return show_plan(points, name)

    return app.run(words, show)


def _check(words: list[str]) -> int:
    def check(points: list[Point], name: str, files: HydraFiles) -> int:
        from harness.cli.show_plan import show_check

        return show_check(points, name)

    return app.run(words, check)


def _inspect(words: list[str]) -> int:
    asked = inspect_arguments(words)
    point = app.one_point(asked.overrides)
    from harness.cli.inspect import inspect

    return inspect(
        point, asked.prompt, steps=asked.steps, top_k=asked.top_k, chat=asked.chat, as_json=asked.as_json
    )


def _replay(words: list[str]) -> int:
    asked = replay_arguments(words)
    from harness.cli.replay import StoredSamples, show_replay
    from harness.store.files import outputs_folder

    samples = StoredSamples.find(outputs_folder(), asked.point)
    point = app.one_point(asked.on(samples.requested))
    return show_replay(samples, point.decoding, as_json=asked.as_json)


def _report(words: list[str]) -> int:
    from harness.report import write
    from harness.tracking.assessments import update_feedback

    name = _one_name("report", words)
    update_feedback(name)
    return write(name)


def _sync(words: list[str]) -> int:
    from harness.tracking.sync import sync

    return sync(_one_name("sync", words))


def _ui(words: list[str]) -> int:
    from harness.cli.ui import serve

    return serve(words)


def _doctor(words: list[str]) -> int:
    _nothing_after("doctor", words)
    from harness.cli.doctor import doctor

    return doctor()


def _help(words: list[str]) -> int:
    from harness.cli.help import about, overview

    arguments = take_apart(words)
    catalog = app.catalog_of(arguments)
    _nothing_after("help", arguments.overrides[1:])
    names = arguments.overrides
    print(about(names[0], catalog) if names else overview(catalog))
    return 0


def _version() -> int:
    from importlib.metadata import version

    print(f"harness {__version__} (Hydra {version('hydra-core')})")
    return 0


WORDS: dict[str, Callable[[list[str]], int]] = {
    "plan": _plan,
    "check": _check,
    "inspect": _inspect,
    "replay": _replay,
    "report": _report,
    "sync": _sync,
    "ui": _ui,
    "doctor": _doctor,
    "help": _help,
}


def _one_name(word: str, words: list[str]) -> str | None:
    """The sweep that `report` or `sync` was given, if any."""
    _nothing_after(word, words[1:])
    if words and (words[0].startswith("-") or "=" in words[0]):
        raise ConfigError.of(words[0], f"`harness {word}` takes the name or id of a sweep, or nothing")
    return words[0] if words else None


def _nothing_after(word: str, words: list[str]) -> None:
    if words:
        raise ConfigError.of(" ".join(words), f"`harness {word}` takes nothing more; take it out")


def _complain(error: HarnessError) -> None:
    """One line a mistake, on stderr."""
    for line in explain(error):
        print(line, file=sys.stderr)


@contextmanager
def _terminable() -> Iterator[list[int]]:
    """SIGTERM raises, so that whoever cleans up after Ctrl-C does so too; yields the signals received."""
    received: list[int] = []

    def raise_terminated(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, raise_terminated)
    except ValueError:  # not the main thread
        yield received
        return
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)
