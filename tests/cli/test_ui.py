from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.cli import ui
from harness.errors import ConfigError


def test_nothing_tracked_yet(outputs: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is tracked yet"):
        ui.serve([])


def test_a_server_has_its_own_address(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.test")
    with pytest.raises(ConfigError, match=r"open that address"):
        ui.serve([])


def test_a_port_in_use(outputs: Path) -> None:
    outputs.mkdir()
    (outputs / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--port {port}: .* cannot be used.*--port {port + 1}"):
            ui.serve(["--port", str(port)])


def test_the_server_gets_store_and_artifacts() -> None:
    command = ui.server_command("sqlite:////data/mlflow.db", "0.0.0.0", 5001, ["--allowed-hosts", "*"])
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert options["--backend-store-uri"] == "sqlite:////data/mlflow.db"
    assert options["--default-artifact-root"] == "file:///data/mlartifacts"
    assert options["--host"] == "0.0.0.0"
    assert options["--port"] == "5001"
    assert options["--allowed-hosts"] == "*"


def alive(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_ctrl_c_ends_the_server_and_its_children(tmp_path: Path) -> None:
    # A stand-in for the server: it starts a child, as MLflow does, and writes its id.
    code = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path(sys.argv[1]).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    pid_file = tmp_path / "pid"

    def interrupt() -> None:
        for _ in range(200):
            if pid_file.exists() and pid_file.read_text():
                break
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert ui._run([sys.executable, "-c", code, str(pid_file)]) == 0
    thread.join()
    child = int(pid_file.read_text())
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the server's child lives on")


def test_a_server_that_fails_gives_its_status() -> None:
    assert ui._run([sys.executable, "-c", "import sys; sys.exit(3)"]) == 3
