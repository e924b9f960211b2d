"""Programs in separate processes without the cost of imports, forked from a server that has done them.

Importing torch, transformers and MLflow takes longer than a small sweep. These processes have their own
memory, signals and exit status, and `kill -9` ends them; only the imports are shared. Tests of the console
script or of imports start a process from scratch instead.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import harness  # noqa: F401  # the processes inherit sys.path, which must contain its Hydra plug-ins

COMMAND = "import sys; from harness.cli.main import main; sys.exit(main())"
_PRELOADED = [
    "harness.run.local",
    "harness.models.load",
    "harness.report",
    "harness.tracking",
    "mlflow.store.tracking.sqlalchemy_store",
    "transformers.models.llama.modeling_llama",
]
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(_PRELOADED)
_TIMEOUT = 240  # seconds; no process takes a tenth of it


class Forked:
    """A running program: `python -c code words`.

    Args:
        code: the program.
        words: of its command line.
        folder: the working folder.
        environment: all environment variables.
        output: an empty folder for its stdout and stderr.
    """

    def __init__(
        self, code: str, words: Sequence[str], folder: Path, environment: Mapping[str, str], output: Path
    ) -> None:
        self._output = output / "stdout", output / "stderr"
        for path in self._output:
            path.touch()
        arguments = (code, list(words), folder, dict(environment), self._output)
        self._process = _SERVER.Process(target=_run, args=arguments)
        self._process.start()

    @property
    def stdout(self) -> str:
        """Its stdout so far."""
        return self._output[0].read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """Its stderr so far."""
        return self._output[1].read_text(encoding="utf-8")

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return not self._process.is_alive()

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait until `reached` returns True, or the process has ended."""
        started = time.monotonic()
        while self._process.is_alive() and not reached():
            assert time.monotonic() - started < _TIMEOUT, f"hangs after:\n{self.stdout}{self.stderr}"
            time.sleep(0.005)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self._process.is_alive() and self._process.pid:
            os.kill(self._process.pid, number)

    def wait(self) -> int:
        """Wait until it has ended; return its exit status, or minus the signal that ended it."""
        self._process.join(_TIMEOUT)
        assert self._process.exitcode is not None, f"hangs after:\n{self.stdout}{self.stderr}"
        return self._process.exitcode

    def close(self) -> None:
        """Kill it if it is running."""
        self._process.kill()
        self._process.join()
        self._process.close()


def _run(
    code: str, words: list[str], folder: Path, environment: dict[str, str], output: tuple[Path, Path]
) -> None:
    for number, path in enumerate(output, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["-c", *words]
    exec(code, {"__name__": "__main__"})
