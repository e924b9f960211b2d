"""A real server on a free port of this machine, for as long as its tests run."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(
    program: Callable[[int], Sequence[str]],
    log: Path,
    *,
    variables: Mapping[str, str] | None = None,
    seconds: float = 120,
) -> Iterator[str]:
    """Start a server, wait until it lists its models, and yield the address of its API; end it afterwards.

    Args:
        program: the command that starts it, by the port it is to listen at.
        log: file for what it prints, shown where it does not start.
        variables: of its environment beside this process's.
        seconds: to wait for it.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    environment = {**os.environ, **(variables or {})}
    with log.open("wb") as printed:
        process = subprocess.Popen(
            program(port), stdout=printed, stderr=subprocess.STDOUT, env=environment, stdin=subprocess.DEVNULL
        )
    try:
        _wait(url, process, log, time.monotonic() + seconds)
        yield url
    finally:
        process.terminate()  # its own processes end with it
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path, until: float) -> None:
    while True:
        try:
            urllib.request.urlopen(f"{url}/models", timeout=5).close()
            return
        except OSError:
            end = log.read_text(errors="replace")[-2000:]
            assert process.poll() is None, f"the server has ended: {end}"
            assert time.monotonic() < until, f"the server does not listen: {end}"
            time.sleep(0.1)
