"""Programs in processes of their own that import nothing: forked from a server that has imported it all.

`python -m harness` spends more time on torch, transformers and MLflow than a small sweep takes. These
processes have a memory, signals and an exit status of their own, and die of `kill -9`; only the imports are
done. What is about the console script, or about imports, starts a process from scratch.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import harness  # noqa: F401  # the processes take over sys.path, which must name its Hydra plug-ins

COMMAND = "import sys; from harness.cli.main import main; sys.exit(main())"
_IMPORTED = [
    "harness.run.local",
    "harness.models.load",
    "harness.report",
    "harness.tracking",
    "mlflow.store.tracking.sqlalchemy_store",
    "transformers.models.llama.modeling_llama",
]
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(_IMPORTED)
_LIMIT = 240  # seconds after which a process hangs; none takes a tenth of it


class Forked:
    """A program going on: `python -c code words`.

    Args:
        code: the program.
        words: of its command line.
        folder: where it runs.
        environment: all of it.
        said: an empty folder for what it prints.
    """

    def __init__(
        self, code: str, words: Sequence[str], folder: Path, environment: Mapping[str, str], said: Path
    ) -> None:
        self._said = said / "stdout", said / "stderr"
        for path in self._said:
            path.touch()
        arguments = (code, list(words), folder, dict(environment), self._said)
        self._process = _SERVER.Process(target=_run, args=arguments)
        self._process.start()

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._said[0].read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What it has complained of so far."""
        return self._said[1].read_text(encoding="utf-8")

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is reached, or the process has ended."""
        begun = time.monotonic()
        while self._process.is_alive() and not reached():
            assert time.monotonic() - begun < _LIMIT, f"hangs after:\n{self.stdout}{self.stderr}"
            time.sleep(0.005)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self._process.is_alive() and self._process.pid:
            os.kill(self._process.pid, number)

    def wait(self) -> int:
        """Its exit status, once it has ended; minus the signal that it died of."""
        self._process.join(_LIMIT)
        assert self._process.exitcode is not None, f"hangs after:\n{self.stdout}{self.stderr}"
        return self._process.exitcode

    def close(self) -> None:
        """Leave nothing running."""
        self._process.kill()
        self._process.join()
        self._process.close()


def _run(
    code: str, words: list[str], folder: Path, environment: dict[str, str], said: tuple[Path, Path]
) -> None:
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["-c", *words]
    exec(code, {"__name__": "__main__"})
