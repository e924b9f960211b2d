"""What runs on a node of a Ray cluster: one worker process, whose lines and files its head asks for.

No library of Ray's is used but for the names of GPUs, and nothing heavy is imported: Ray imports this module
on the node before the worker starts.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, BinaryIO

import harness
from harness.run.ray.parcels import Folder, Inbox, Outbox, Parcel

_POLL_S = 0.5
_SCAN_S = 1.0
_REPORT_BYTES = 32 * 2**20
_PREFIX = "harness-ray-"
_LOG_BYTES = 2**16


@dataclass(frozen=True)
class Run:
    """A worker process to start.

    Attributes:
        command: what follows the node's Python.
        words: what follows the sweep's folder.
        environment: variables beside the node's own.
        folder: the working folder, where the store is shared.
        sweep: the sweep's folder; only its name counts where the store is not shared.
        device: what its workers take turns on, `cpu` or `gpu`; None where each has its own.
    """

    command: tuple[str, ...]
    words: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    sweep: str
    device: str | None = None


@dataclass(frozen=True)
class Shipment:
    """What a worker gets and gives where the store is not shared.

    Attributes:
        points: `points.json`.
        gets: folders of the store that are sent to it.
        files: of the working folder, that are sent to it.
        links: paths below the working folder that the node may have where the head has them.
        gives: folders of its store that come back.
    """

    points: str
    gets: tuple[Folder, ...]
    files: Folder
    links: Mapping[str, str]
    gives: tuple[Folder, ...]


@dataclass(frozen=True)
class Report:
    """What happened at a worker since it was last asked.

    Attributes:
        parcels: files; they are to be put into the store before the lines are believed.
        lines: what the worker told.
        log: what it wrote to standard error.
        status: its exit status once it has ended, and nothing is left to report.
    """

    parcels: tuple[Parcel, ...] = ()
    lines: tuple[Mapping[str, Any], ...] = ()
    log: bytes = b""
    status: int | None = None


class GroupRunner:
    """Runs one worker process, on the node where Ray placed it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._told: SimpleQueue[Mapping[str, Any] | bytes] = SimpleQueue()
        self._readers: list[threading.Thread] = []
        self._place: Path | None = None
        self._inboxes: dict[str, Inbox] = {}
        self._shipment: Shipment | None = None
        self._outbox: Outbox | None = None
        self._sending: Iterator[Parcel] | None = None
        self._held: list[Mapping[str, Any]] = []
        self._scanned = 0.0
        self._stopped = False

    def where(self) -> tuple[str, str]:
        """Return the node's name, and the GPUs that Ray gave this worker as CUDA_VISIBLE_DEVICES has them."""
        return platform.node(), _gpus()

    def sees(self, path: str, content: str) -> bool:
        """Return whether a file of the head is here, with this content."""
        with suppress(OSError):
            return Path(path).read_text() == content
        return False

    def has(self, paths: Sequence[str]) -> bool:
        """Return whether all of these files and folders of the head are here."""
        return all(os.path.exists(path) for path in paths)

    def prepare(self, shipment: Shipment) -> None:
        """Make a store of its own, for what `receive` gets and the worker writes."""
        _remove_abandoned()
        self._shipment = shipment
        self._place = Path(tempfile.mkdtemp(prefix=place_prefix(os.getpid())))
        for name, folders in (("outputs", shipment.gets), ("work", (shipment.files,))):
            (self._place / name).mkdir()
            self._inboxes[name] = Inbox(self._place / name, self._place / f"arriving-{name}", folders)
        for name, target in shipment.links.items():
            if os.path.exists(target):
                link = self._place / "work" / name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(target)

    def receive(self, place: str, parcels: Sequence[Parcel]) -> None:
        """Put files into `outputs` or `work`."""
        for parcel in parcels:
            self._inboxes[place].put(parcel)

    def begin(self, run: Run) -> None:
        """Start the worker."""
        folder, sweep = run.folder, run.sweep
        if self._shipment is not None and self._place is not None:
            folder, outputs = str(self._place / "work"), self._place / "outputs"
            sweep = str(outputs / "sweeps" / Path(run.sweep).name)
            os.makedirs(sweep)
            facts = json.loads(self._shipment.points) | {"outputs": str(outputs), "folder": folder}
            (Path(sweep) / "points.json").write_text(json.dumps(facts) + "\n")
            self._outbox = Outbox(outputs, self._shipment.gives)
            self._outbox.skip()
        words = [sweep, *run.words]
        if run.device is not None:
            words += ["--shared", str(_turns() / (run.device if run.device == "cpu" else f"gpu-{_gpus()}"))]
        self._process = subprocess.Popen(
            [sys.executable, *run.command, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": _import_path(),
                "CUDA_VISIBLE_DEVICES": _gpus(),
                **run.environment,
            },
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        for read, pipe in ((self._read_lines, self._process.stdout), (self._read_log, self._process.stderr)):
            thread = threading.Thread(target=read, args=(pipe,), daemon=True)
            thread.start()
            self._readers.append(thread)
        if self._stopped:
            self._process.terminate()

    def poll(self) -> Report:
        """Return what happened; wait a moment where nothing has."""
        assert self._process is not None
        if self._sending is not None:
            parcels = self._next_parcels()
            if parcels:
                return Report(parcels=parcels)
        lines, log = self._gather(wait=not self._held)
        self._held += lines
        over = self._process.poll() is not None and not any(one.is_alive() for one in self._readers)
        if over:
            more, last = self._gather(wait=False)
            self._held += more
            log += last
        outcome = any("outcome" in line for line in self._held)
        if self._outbox is not None and (over or outcome or time.monotonic() > self._scanned + _SCAN_S):
            self._scanned = time.monotonic()
            self._sending = self._outbox.parcels()
            if parcels := self._next_parcels():
                return Report(parcels=parcels, log=log)
        lines, self._held = self._held, []
        if over:
            self._remove()
        return Report(lines=tuple(lines), log=log, status=self._process.returncode if over else None)

    def stop(self) -> None:
        """Ask the worker to end as on Ctrl-C."""
        self._stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        self._remove()

    def _next_parcels(self) -> tuple[Parcel, ...]:
        """Return the next files to send, of about as many bytes as a report should have."""
        parcels: list[Parcel] = []
        size = 0
        while self._sending is not None and size < _REPORT_BYTES:
            parcel = next(self._sending, None)
            if parcel is None:
                self._sending = None
            else:
                parcels.append(parcel)
                size += len(getattr(parcel, "data", b""))
        return tuple(parcels)

    def _gather(self, wait: bool = True) -> tuple[list[Mapping[str, Any]], bytes]:
        lines, log = list[Mapping[str, Any]](), b""
        timeout = _POLL_S if wait else 0.0
        with suppress(Empty):
            while True:
                told = self._told.get(timeout=timeout) if timeout else self._told.get_nowait()
                timeout = 0.02 if timeout else 0.0
                if isinstance(told, bytes):
                    log += told
                elif set(told) == {"done"} and lines and set(lines[-1]) == {"done"}:
                    lines[-1] = told
                else:
                    lines.append(told)
                if len(lines) > 1000 or len(log) > _LOG_BYTES:
                    break
        return lines, log

    def _read_lines(self, pipe: BinaryIO) -> None:
        with pipe:
            for line in pipe:
                try:
                    told = json.loads(line)
                except ValueError:  # a library that prints
                    continue
                if isinstance(told, dict):
                    self._told.put(told)

    def _read_log(self, pipe: BinaryIO) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), _LOG_BYTES):
                self._told.put(data)

    def _remove(self) -> None:
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)


def _gpus() -> str:
    """Return the GPUs of this worker as CUDA names them; empty where it has none."""
    if "ray" not in sys.modules or not sys.modules["ray"].is_initialized():
        return ""
    import ray

    names = ",".join(map(str, ray.get_runtime_context().get_accelerator_ids().get("GPU", [])))
    return names and os.environ.get("CUDA_VISIBLE_DEVICES", names)


def _import_path() -> str:
    """Return PYTHONPATH with the place of this package, which Ray may know by the head's own path alone."""
    home = str(Path(harness.__file__).parents[1])
    before = os.environ.get("PYTHONPATH")
    return f"{home}{os.pathsep}{before}" if before else home


def _turns() -> Path:
    """Return the folder in which the workers of this user on this node take turns."""
    return Path(tempfile.gettempdir()) / f"harness-turns-{getpass.getuser()}"


def place_prefix(process: int | str) -> str:
    """Return how the names of the stores of a process begin: with the container's number, and its own."""
    try:
        container = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        container = 0
    return f"{_PREFIX}{container}-{process}-"


def _remove_abandoned() -> None:
    """Remove the stores of runners of this container that were killed."""
    mine = place_prefix("").rstrip("-") + "-"
    for place in Path(tempfile.gettempdir()).glob(f"{mine}*"):
        process = place.name.removeprefix(mine).partition("-")[0]
        with suppress(OSError):
            try:
                os.kill(int(process) if process.isdecimal() else os.getpid(), 0)
            except ProcessLookupError:
                shutil.rmtree(place, ignore_errors=True)
