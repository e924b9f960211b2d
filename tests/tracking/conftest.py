from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "report"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """MLflow's own use of SQLAlchemy 2.1 is told as deprecated."""
    here = Path(__file__).parent
    noload = "ignore:The ``noload`` loader strategy:DeprecationWarning"
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(noload))


@pytest.fixture
def store(outputs: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """URI of this test's store, which is the default one; run from an empty folder that must stay empty."""
    outputs.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(migrated, outputs / "mlflow.db")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    yield f"sqlite:///{outputs / 'mlflow.db'}"
    assert list(elsewhere.iterdir()) == []
