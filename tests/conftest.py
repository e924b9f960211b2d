"""Shared by all tests: a quiet, offline, single-threaded environment, and fixtures of the whole session."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

# Before any heavy library is imported: they read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MLFLOW_TRACKING_URI", None)

sys.path.append(str(Path(__file__).parent))

from forked import COMMAND, Forked
from small_models import SmallModels, quiet_transformers

# The commands that tests start compile the harness once, not each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell starts its background jobs with SIGINT ignored, which all processes below them would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores, at most 5: tests also wait, for other processes and browsers."""
    return min(os.cpu_count() or 1, 4) + 1


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--slow-share 3` runs every third of the slow cases of each file."""
    parser.addoption("--slow-share", type=int, default=1, help="run every N-th slow case of each file")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a test marked `thinned(n)` leave every n-th case to `make test`; the others are slow ones."""
    seen: Counter[str] = Counter()
    for item in items:
        if mark := item.get_closest_marker("thinned"):
            name = item.nodeid.partition("[")[0]
            if seen[name] % mark.args[0]:
                item.add_marker(pytest.mark.slow)
            seen[name] += 1
    slow: Counter[str] = Counter()
    left = []
    for item in items:
        name = item.nodeid.partition("::")[0]
        if item.get_closest_marker("slow"):
            if slow[name] % config.getoption("--slow-share"):
                left.append(item)
            slow[name] += 1
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]


def pytest_collection_finish() -> None:
    """Exempt imported objects from garbage collection: the harness runs a full one per model."""
    exempt_imported()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Exempt what a test was the first to import: torch, transformers and MLflow are imported late."""
    done = yield
    if len(sys.modules) > _exempt[-1] + 200:
        exempt_imported()
    return done


_exempt = [0]


def exempt_imported() -> None:
    """Exempt all that is there now."""
    gc.collect()
    gc.freeze()
    _exempt.append(len(sys.modules))


@pytest.fixture(autouse=True)
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test its own outputs folder, so that none can write into the project's."""
    folder = tmp_path / "outputs"
    monkeypatch.setenv("HARNESS_OUTPUTS", str(folder))
    return folder


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Run torch on one thread: the same numbers on every machine, and no contention between tests."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> SmallModels:
    """`small_model("llama", bos=False, ...)` is the folder of a small random checkpoint, created once."""
    quiet_transformers()
    return SmallModels(tmp_path_factory.mktemp("small-models"))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store: its migrations take seconds, a copy of the file does not."""
    from mlflow import MlflowClient
    from sqlalchemy import Engine, event

    # From here on sqlite in this process does not wait for the disk: no test cuts the power.
    event.listen(Engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    logging.getLogger("alembic").setLevel(logging.WARNING)
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(outputs: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """URI of the default store, empty; the test runs in an empty folder that must stay empty."""
    outputs.mkdir()
    shutil.copyfile(migrated, outputs / "mlflow.db")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    yield f"sqlite:///{outputs / 'mlflow.db'}"
    assert list(elsewhere.iterdir()) == []


@pytest.fixture
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Forked]]:
    """`forked("-m", "decoding=greedy,top_p")`: the command in its own process, running.

    It has the test's folder and environment, unless `folder=` or capital keywords change them. `code=` is
    another program than the harness.
    """
    started: list[Forked] = []

    def start(*words: str, code: str = COMMAND, folder: Path | None = None, **changes: str) -> Forked:
        output = tmp_path_factory.mktemp("output")
        process = Forked(code, words, folder or Path.cwd(), {**os.environ, **changes}, output)
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()
