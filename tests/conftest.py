"""What all tests share: a quiet, offline, single-threaded world, and small models made on the spot."""

from __future__ import annotations

import logging
import os
import sys
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

from small_models import SmallModels, quiet_transformers


@pytest.fixture(autouse=True)
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has an outputs folder of its own, and none can write into the project's."""
    folder = tmp_path / "outputs"
    monkeypatch.setenv("HARNESS_OUTPUTS", str(folder))
    return folder


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Torch on one thread: the same numbers wherever the tests run, and no fight for the cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> SmallModels:
    """`small_model("llama", bos=False, ...)` is the folder of a small random checkpoint, made once."""
    quiet_transformers()
    return SmallModels(tmp_path_factory.mktemp("small-models"))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store: its migrations take seconds, a copy of the file none."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    logging.getLogger("alembic").setLevel(logging.WARNING)
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path
