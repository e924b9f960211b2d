"""`harness ui`: the MLflow UI on this project's store."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

from harness.config.secret_text import bare_address, safe_address
from harness.errors import ConfigError, HarnessError
from harness.store.files import outputs_folder
from harness.store.mlflow_uri import (
    artifacts_uri,
    is_server,
    openable_uri,
    prepare_environment,
    sqlite_path,
    tracking_uri,
)
from harness.store.sweeps import find_sweep
from harness.tracking.database import opened, reason_of


def serve(argv: Sequence[str]) -> int:
    """Run MLflow's server until Ctrl-C; returns 0 when it was stopped so, else the server's exit status.

    Args:
        argv: `--port`, `--host`, and any option of `mlflow server`.

    Raises:
        ConfigError: nothing was tracked yet, or runs are sent to a server with its own address.
        HarnessError: the port is in use, or MLflow cannot open the database.
    """
    parser = argparse.ArgumentParser(
        prog="harness ui",
        description="The MLflow UI on this project's store.",
        epilog="Other options are passed to `mlflow server`, for instance --allowed-hosts.",
    )
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--host", default="127.0.0.1")
    known, rest = parser.parse_known_args(list(argv))
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
    host = "127.0.0.1" if known.host in ("0.0.0.0", "::") else known.host
    print(f"Starting MLflow UI at http://{host}:{known.port} (Ctrl-C to stop)", flush=True)
    # Not among the words, which everybody on the machine can read.
    secret = {"MLFLOW_BACKEND_STORE_URI": uri} if safe_address(uri) != uri else {}
    return _run(server_command(uri, known.host, known.port, rest), secret)


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
    return [*command, "--host", host, "--port", str(port), "--workers", "1", *rest]


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
            raise HarnessError(
                f"--port: {port} on {host} cannot be used ({error.strerror or error}); "
                f"is `harness ui` running already? Use another port: `harness ui --port {port + 1}`"
            ) from error


def _check_usable(uri: str) -> None:
    try:
        with opened(uri):
            pass
    except HarnessError:
        raise
    except Exception as error:
        message = f"tracking.uri: MLflow cannot open {safe_address(uri)} ({reason_of(error)})"
        raise HarnessError(message) from error


def _run(command: Sequence[str], variables: Mapping[str, str] | None = None) -> int:
    """Run the server in a session of its own, and end all of its processes with ours."""
    prepare_environment()
    # Off: runners of features that are not used here, more processes to start and to end.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ, **(variables or {})}
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    ended_by_user = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ended_by_user
        ended_by_user = True
        _signal_all(server, signal.SIGTERM)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
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
