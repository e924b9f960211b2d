"""The Ray cluster that workers run on: how it is reached, what it has room for, its errors in one line."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.config.launcher_section import PREFIX
from harness.config.ray_launcher import RayLauncher
from harness.errors import ConfigError, first_line
from harness.models.device import devices
from harness.run.workers import After

_REACHED_S = 10.0
_OBJECTS_BYTES = 256 * 2**20
"""Of a cluster of our own: reports are small, and Ray would take a third of the memory."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
}
_SILENT = {"RAY_DEDUP_LOGS_SKIP_REGEX": "."}
"""Ray's raylet tells of every worker that dies, in a paragraph; the pool tells it in a line."""
_TOKEN_CURE = "set RAY_AUTH_TOKEN to the cluster's token, or copy its ~/.ray/auth_token here"
_KEYS = {"CPU": "ray.remote.num_cpus", "GPU": "ray.remote.num_gpus", "memory": "ray.remote.memory"}


def is_installed() -> bool:
    """Return whether Ray can be imported."""
    return importlib.util.find_spec("ray") is not None


def connect(launcher: RayLauncher) -> bool:
    """Connect this process to the launcher's cluster, or start one; without words of Ray's own.

    Returns:
        Whether it was not connected before.

    Raises:
        ConfigError: Ray is missing, the cluster cannot be reached, or does not let us in.
    """
    check_installed()
    quiet = _QUIET if launcher.ray.init.log_to_driver else _QUIET | _SILENT
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    address = launcher.address
    if address is not None:
        _check_reachable(address)
        if "RAY_AUTH_MODE" not in os.environ and _has_token():
            os.environ["RAY_AUTH_MODE"] = (
                "token"  # Ray looks for it by itself only where it finds the cluster
            )
    if _is_connected():
        return False
    import ray

    keys = launcher.ray.init.model_dump(exclude_none=True, exclude_defaults=True) | {
        "address": address or "local",
        "log_to_driver": launcher.ray.init.log_to_driver,
        "logging_level": logging.CRITICAL,
    }
    if address is None:
        keys |= {"include_dashboard": launcher.ray.init.include_dashboard}
        keys.setdefault("object_store_memory", _OBJECTS_BYTES)
        keys.setdefault("num_gpus", _gpus_here())
    with _unheard() as heard, _own_signals():
        try:
            ray.init(**keys)
        except Exception as error:
            ray.shutdown()
            raise _not_connected(address, error, heard()) from error
    return True


def disconnect() -> None:
    """Leave the cluster; one of our own ends."""
    import ray

    with _unheard(), _own_signals():
        ray.shutdown()


def check_installed() -> None:
    """Refuse to go on without Ray.

    Raises:
        ConfigError: it is not installed.
    """
    if not is_installed():
        cure = "install it here and on the nodes: pip install 'decoding-harness[ray]'"
        raise ConfigError.of("hydra/launcher=ray", f"Ray is not installed; {cure}")


def nodes(launcher: RayLauncher) -> dict[str, dict[str, float]]:
    """Return what each node has in all, by its name; of a cluster to be started here, before it is."""
    if _is_connected():
        import ray

        return {
            f"{one['NodeManagerHostname']} ({one['NodeManagerAddress']}, {one['NodeID'][:6]})": dict(
                one["Resources"]
            )
            for one in ray.nodes()
            if one["Alive"]
        }
    import psutil

    init = launcher.ray.init
    here: dict[str, float] = {
        "CPU": init.num_cpus or os.cpu_count() or 1,
        "GPU": _gpus_here() if init.num_gpus is None else init.num_gpus,
        "memory": psutil.virtual_memory().total,
    }
    return {"this machine": here | init.resources}


def _is_connected() -> bool:
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def needed(launcher: RayLauncher) -> dict[str, float]:
    """Return what a worker needs of its node."""
    remote = launcher.ray.remote
    found = {
        "CPU": remote.num_cpus,
        "GPU": gpus_of(launcher),
        "memory": remote.memory or 0,
        **remote.resources,
    }
    if remote.accelerator_type:
        found[f"accelerator_type:{remote.accelerator_type}"] = 0.001
    return {name: float(amount) for name, amount in found.items() if amount}


def gpus_of(launcher: RayLauncher) -> float:
    """Return the GPUs of each worker."""
    gpus = launcher.ray.remote.num_gpus
    if gpus is None:
        gpus = float(
            len(devices()) > 1 and devices()[0].startswith("cuda") and launcher.ray.init.num_gpus != 0
        )
    return gpus


def _gpus_here() -> int:
    return sum(name.startswith("cuda") for name in devices())


def room(need: Mapping[str, float], has: Mapping[str, float]) -> int:
    """Return how many workers fit on a node at once."""
    return min((int(has.get(name, 0) / amount + 1e-9) for name, amount in need.items()), default=0)


def check_room(launcher: RayLauncher, all_nodes: Mapping[str, Mapping[str, float]]) -> None:
    """Refuse workers that no node has room for: Ray would wait for such a node for ever.

    Raises:
        ConfigError: there is none.
    """
    need = needed(launcher)
    if launcher.autoscale or any(room(need, has) for has in all_nodes.values()):
        return
    later = f", or set {PREFIX}autoscale=true where nodes may come later" if launcher.address else ""
    for name, amount in need.items():
        most = max((has.get(name, 0) for has in all_nodes.values()), default=0)
        if most < amount:
            key = _KEYS.get(name, "ray.remote.resources")
            if name.startswith("accelerator_type:"):
                known = _accelerators(all_nodes.values())
                shown = f"the cluster has {', '.join(known)}" if known else "no node tells its kind"
                value = name.partition(":")[2]
                problem = f"no node has this accelerator, {shown}; take one of these{later}"
                raise ConfigError.of(f"{PREFIX}ray.remote.accelerator_type={value}", problem)
            what = (
                name
                if key == "ray.remote.resources"
                else key.rpartition(".")[2].removeprefix("num_").rstrip("s")
            )
            problem = f"no node has so much {what}, the most is {_number(most)}, so Ray would wait for ever"
            raise ConfigError.of(f"{PREFIX}{key}={_number(amount)}", f"{problem}; lower it{later}")
    shown = ", ".join(f"{name} {_number(amount)}" for name, amount in need.items())
    raise ConfigError.of(f"{PREFIX}ray.remote", f"no node has {shown} together; lower one of them{later}")


def _accelerators(all_nodes: Iterable[Mapping[str, float]]) -> list[str]:
    names = {name for has in all_nodes for name in has if name.startswith("accelerator_type:")}
    return sorted(name.partition(":")[2] for name in names)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def why_it_died(error: BaseException) -> tuple[str, After]:
    """Return in a few words why a worker is gone, as Ray says, and whether another takes its place."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    if re.search(r"No module named 'harness\b", text):
        cure = "this package is not installed on its node, or in another version; install the same one there"
        return f"cannot be started: {cure}", "never"
    if missing := re.search(r"No module named '([\w.]+)'", text):
        return f"cannot be started: {missing[1]} is not installed on its node", "never"
    if kind == "RuntimeEnvSetupError" or ("runtime_env" in text.lower() and "fail" in text.lower()):
        return f"cannot be started: its runtime_env cannot be set up ({text[-200:]})", "never"
    if "OutOfMemory" in kind or "low on memory" in text or "OutOfMemory" in text:
        cure = f"{PREFIX}ray.remote.memory=BYTES keeps so many workers off a node"
        return f"was killed by Ray, since its node ran out of memory ({cure})", "count"
    if re.search(r"node (has|was|is) (died|dead|terminated|removed)|node died|NodeDied", text):
        return "is gone, since its node died", "again"
    if said := re.search(r"Worker exit type: (\w+) Worker exit detail: ([^.]*\.?[^.]*)\.", text):
        return f"is gone with its Ray process ({said[1]}: {said[2].strip()})", "count"
    if kind == "ActorUnavailableError":
        return "could not be reached for a while", "count"
    return f"is gone ({kind}: {first_line(error)})", "count"


def _not_connected(address: str | None, error: BaseException, heard: str) -> ConfigError:
    key = f"{PREFIX}ray.init.address={address}" if address else "hydra/launcher=ray"
    text = f"{type(error).__name__} {error} {heard}"
    if re.search(r"Authentication|Unauthenticated|InvalidAuthToken", text):
        return ConfigError.of(key, f"the cluster wants its token; {_TOKEN_CURE}")
    if "Could not find any running Ray instance" in text:
        cure = "start one (`ray start --head`), give HOST:6379, or leave the address out"
        return ConfigError.of(key, f"no cluster runs on this machine; {cure}")
    if version := re.search(r"[Vv]ersion mismatch.{0,300}", " ".join(text.split())):
        return ConfigError.of(key, f"{version[0].strip()}; install the same versions on both sides")
    if address is not None and "ray client" in text.lower() and "grpc" in text.lower():
        return ConfigError.of(key, "ray:// needs Ray's client: pip install 'ray[client]'")
    if address is None:
        return ConfigError.of(key, f"no cluster could be started here: {first_line(error)}")
    return ConfigError.of(
        key, f"cannot connect: {first_line(error)}; check the address, `ray status` on its head"
    )


def _check_reachable(address: str) -> None:
    """Find out within seconds whether anybody listens: Ray would try for a minute and a half."""
    key = f"{PREFIX}ray.init.address={address}"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError.of(key, "must be auto, HOST:PORT as in 10.0.0.1:6379, or ray://HOST:10001")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACHED_S).close()
    except OSError as error:
        reason = error.strerror or error or "no answer"
        cure = "check the address; `ray start --head` on its first node prints it"
        raise ConfigError.of(key, f"nobody answers there ({reason}); {cure}") from None


def _has_token() -> bool:
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"
    with suppress(OSError, RuntimeError):
        return Path(path).expanduser().is_file()
    return False


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep Ray from replacing what SIGTERM does."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _unheard() -> Iterator[Any]:
    """Keep what native code writes to standard error; yields a function that returns it."""
    with tempfile.TemporaryFile() as file:

        def heard() -> str:
            file.seek(0)
            return file.read().decode("utf-8", "replace")

        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield heard
        finally:
            os.dup2(before, 2)
            os.close(before)
