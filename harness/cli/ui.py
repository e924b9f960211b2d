"""`harness ui`: the MLflow UI on this project's store."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from http.client import HTTPException
from types import FrameType
from typing import NoReturn
from urllib.request import urlopen

from rich.text import Text

from harness.config.secret_text import bare_address, safe_address
from harness.errors import ConfigError, HarnessError
from harness.report.console import SafeConsole
from harness.store.files import outputs_folder
from harness.store.mlflow_uri import (
    artifacts_uri,
    is_server,
    openable_uri,
    prepare_environment,
    sqlite_path,
    tracking_uri,
)
from harness.store.sweeps import Sweep, find_sweep
from harness.terminal import visible
from harness.tracking.database import opened, reason_of
from harness.tracking.links import Link
from harness.tracking.print_links import print_links
from harness.tracking.recent_sweeps import RecentSweep, recent_sweeps

POLL = 0.2
"""Seconds between two looks at whether the server answers."""

QUIET = "--log-level warning"
"""Options of uvicorn, which serves MLflow."""


def serve(argv: Sequence[str]) -> int:
    """Run MLflow's server until Ctrl-C; returns 0 when it was stopped so, else the server's exit status.

    Args:
        argv: `--port`, `--host`, and any option of `mlflow server`.

    Raises:
        ConfigError: nothing was tracked yet, runs are sent to a server with its own address, or the port is
            none, or in use.
        HarnessError: MLflow cannot open the database.
    """
    parser = _Parser(
        prog="harness ui",
        description="The MLflow UI on this project's store.",
        epilog="Other options are passed to `mlflow server`, for instance --allowed-hosts.",
    )
    parser.add_argument("--port", default="5000")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--open", action="store_true", help="open the last sweep in a browser")
    known, rest = parser.parse_known_args(list(argv))
    known.port = _port(known.port)
    uri = _uri()
    if is_server(uri):
        raise ConfigError.of(
            "", f"runs are stored by the MLflow server at {bare_address(uri)}; open that address in a browser"
        )
    path = sqlite_path(uri)
    if path and not path.is_file():
        raise ConfigError.of(
            "", f"nothing is tracked yet in {uri}; `harness experiments=demo` runs a first sweep"
        )
    _check_free(known.host, known.port)
    _check_usable(uri)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(known.host, known.host)
    address = f"http://{host}:{known.port}"
    print(f"Starting the MLflow UI at {address} ...", flush=True)
    # Not among the words, which everybody on the machine can read.
    secret = {"MLFLOW_BACKEND_STORE_URI": uri} if safe_address(uri) != uri else {}

    def started(server: subprocess.Popen[bytes]) -> None:
        recent = recent_sweeps(outputs_folder(), uri, address)
        if _answers(server, address):
            show_sweeps(recent, address)
            if known.open:
                _open(recent[0].links if recent else (), address)

    return _run(server_command(uri, known.host, known.port, rest), secret, started)


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are those of every other command: one line."""

    def error(self, message: str) -> NoReturn:
        """Raise a ConfigError."""
        raise ConfigError.of("harness ui", f"{message}; `harness ui --help` lists the options")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65535):
        raise ConfigError.of(f"--port {text}", "must be a port from 1 to 65535, as in --port 5001")
    return int(text)


def server_command(uri: str, host: str, port: int, rest: Sequence[str]) -> list[str]:
    """Return the server's command line, without a database's URI that has a secret in it.

    The server reads artifacts itself, by the file URIs in the runs.
    """
    command = [sys.executable, "-m", "mlflow", "server"]
    if safe_address(uri) == uri:
        command += ["--backend-store-uri", openable_uri(uri)]
    root = artifacts_uri(uri)
    if root:
        command += ["--default-artifact-root", root, "--artifacts-destination", root]
    # Without a line for each request of the browser.
    quiet = [] if any(word.startswith("--uvicorn-opts") for word in rest) else ["--uvicorn-opts", QUIET]
    return [*command, "--host", host, "--port", str(port), "--workers", "1", *quiet, *rest]


def show_sweeps(recent: Sequence[RecentSweep], address: str) -> None:
    """Print that the UI is ready, the links to the last sweep, and the ones before it."""
    console = SafeConsole()
    ready = Text.assemble("MLflow UI: ", console.link(address, address), "   (Ctrl-C to stop)")
    console.print(ready, soft_wrap=True)
    for number, one in enumerate(recent):
        if number < 2:
            console.print(Text("\nLast sweep" if number == 0 else "\nEarlier", "bold"))
        console.print(Text(f"{visible(_headline(one.sweep))}"), soft_wrap=True)
        links = one.links if number == 0 else [link for link in one.links if link.name in ("page", "runs")]
        print_links(console, one.sweep, links, "", served=True)
    console.print()


def _headline(sweep: Sweep) -> str:
    """Return a sweep in one line: its title, its id, how many points, when."""
    points = f"{len(sweep.points)} point{'' if len(sweep.points) == 1 else 's'}"
    when = datetime.fromtimestamp(sweep.started).strftime("%Y-%m-%d %H:%M")
    return f"{sweep.title} ({sweep.sweep_id}): {points}, {when}"


def _answers(server: subprocess.Popen[bytes], address: str) -> bool:
    """Wait until the server answers; False when it has ended before."""
    while server.poll() is None:
        with contextlib.suppress(OSError, HTTPException), urlopen(f"{address}/health", timeout=5):
            return True
        time.sleep(POLL)
    return False


def _open(links: Sequence[Link], address: str) -> None:
    """Open the charts of the last sweep, or the UI, in the user's browser; say so where there is none."""
    url = next((link.url for link in links if link.name == "charts"), address)
    if not webbrowser.open(url):
        print("--open: no browser was found; open one of the links above")


def _uri() -> str:
    """The store of the last sweep; without a sweep the one that a run in this folder would use."""
    try:
        tracking = find_sweep(outputs_folder(), None).tracking
    except ConfigError:
        tracking = {}
    return tracking_uri(tracking)


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            other = port + 1 if port < 65535 else 5000
            message = (
                f"on {host} it cannot be used ({error.strerror or error}); is `harness ui` running already? "
                f"Use another port: `harness ui --port {other}`"
            )
            raise ConfigError.of(f"--port {port}", message) from error


def _check_usable(uri: str) -> None:
    try:
        with opened(uri):
            pass
    except HarnessError:
        raise
    except Exception as error:
        message = f"tracking.uri: MLflow cannot open {safe_address(uri)} ({reason_of(error)})"
        raise HarnessError(message) from error


def _run(
    command: Sequence[str],
    variables: Mapping[str, str] | None = None,
    started: Callable[[subprocess.Popen[bytes]], None] = lambda server: None,
) -> int:
    """Run the server in a session of its own, and end all of its processes with ours.

    `started` is called with the server once it was started, and may wait for it.
    """
    prepare_environment()
    # Off: runners of features that are not used here, more processes to start and to end.
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    environment = {**quiet, **os.environ, **(variables or {})}
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    ended_by_user = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ended_by_user
        ended_by_user = True
        _signal_all(server, signal.SIGTERM)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        started(server)
        status = server.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _signal_all(server, signal.SIGKILL)
    return 0 if ended_by_user else status


def _signal_all(server: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the server's process group, if any of it is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, number)
