"""Tracking URIs that cannot be are mistakes of the config: one line, at once, and MLflow is not asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import ConfigError
from harness.store.mlflow_uri import openable_uri, sqlite_path, tracking_uri

# {here} is a folder with the folder `sub` and the file `file`.
WRONG = [
    ("{here}", "is a folder"),
    ("file://{here}/sub", "is a folder"),
    ("sqlite:///{here}", "is a folder; name a file in it, as in sqlite:///{here}/mlflow.db"),
    ("sqlite:///{here}/file/mlflow.db", "{here}/file is not a folder"),
    ("sqlite:////dev/null", "is not a file"),
    ("sqlite:///", "names no file; write sqlite:/// and a path"),
    ("sqlite://", "names no file"),
    ("sqlite:///:memory:", "names no file"),
    ("sqlite://mlflow.db", "names no file"),
    ("sqlite:mlflow.db", "names no file"),
    ("sqllite:///mlflow.db", "unknown scheme; did you mean sqlite?"),
    ("htp://127.0.0.1:5000", "unknown scheme; did you mean http?"),
    ("s3://bucket/runs", "unknown scheme"),
    ("localhost:5000", "unknown scheme"),
    ("http://", "names no host"),
    ("http://:5000", "names no host"),
    ("http://127.0.0.1:5000000", "is not an address"),
    ("http://127.0.0.1:5000/?token=abc", "MLFLOW_TRACKING_TOKEN"),
    ("http://127.0.0.1:5000/#/experiments/1", "leave it out"),
    ("mysql+pymysql://ada@db/mlflow", "`pip install pymysql`"),
    ("postgresql+psycopg2://ada@db/mlflow", "`pip install psycopg2-binary`"),
    ("mysql://ada@db/mlflow", "`pip install mysqlclient`"),
    ("mssql+pyodbc://ada@db/mlflow", "`pip install pyodbc`"),
    ("postgresql+psycopgg://ada@db/mlflow", "SQLAlchemy does not know"),
    ("postgresql:db/mlflow", "is not an address of a database"),
]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize("key", ["tracking.uri", "MLFLOW_TRACKING_URI"])
@pytest.mark.parametrize(("uri", "cure"), WRONG)
def test_a_uri_that_cannot_be(
    here: Path, monkeypatch: pytest.MonkeyPatch, key: str, uri: str, cure: str
) -> None:
    for driver in ("pymysql", "psycopg2", "MySQLdb", "pyodbc"):
        monkeypatch.setitem(sys.modules, driver, None)
    uri, cure = uri.format(here=here), cure.format(here=here)
    if key == "MLFLOW_TRACKING_URI":
        monkeypatch.setenv(key, uri)
    with pytest.raises(ConfigError) as caught:
        tracking_uri({"uri": uri if key == "tracking.uri" else None})
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{key}: ")
    assert cure in str(caught.value)


def test_a_folder_at_the_default_place(outputs: Path) -> None:
    (outputs / "mlflow.db").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"tracking\.uri: .*is a folder"):
        tracking_uri({})


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///new/folder/mlflow.db",
        "sqlite:///~/mlflow.db",
        "sqlite:///x.db?timeout=5",
        "http://127.0.0.1:5000",
        "https://host/prefix/",
        "databricks",
        "databricks://profile",
    ],
)
def test_a_uri_that_can_be(uri: str) -> None:
    assert tracking_uri({"uri": uri})


def test_check_and_run_say_it_at_once_and_without_mlflow(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=fable_tiny", "generation.max_new_tokens=2", "tracking.uri='sqlite:///'"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tracking.uri: 'sqlite:///' names no file")
    assert not outputs.exists()
    code = (
        "import sys; from harness.cli.main import main; status = main(sys.argv[1:]);"
        "print({'mlflow', 'torch'} & set(sys.modules), status)"
    )
    words = [sys.executable, "-c", code, "check", *words]
    checked = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (checked.stdout, checked.stderr) == ("set() 2\n", f"{line}\n")


def test_the_path_of_a_file_is_taken_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a%41.db", "what?.db", "a=b?c/x.db", "#1.db", "c;d 'e'.db"):
        assert sqlite_path(tracking_uri({"uri": f"sqlite:///{name}"})) == tmp_path / name
    assert tracking_uri({"uri": "sqlite:///x.db?timeout=5"}) == f"sqlite:///{tmp_path}/x.db?timeout=5"
    assert sqlite_path("sqlite:////x.db?timeout=5") == Path("/x.db")


@pytest.mark.parametrize("name", ["a%41.db", "what?.db", "50%.db"])
def test_what_is_opened_instead_is_the_same_file(tmp_path: Path, name: str) -> None:
    uri = openable_uri(f"sqlite:///{tmp_path / name}?timeout=5")
    assert uri.endswith("?timeout=5")
    path = sqlite_path(uri)
    assert path == tmp_path / name
    assert not set("%?") & set(uri.removesuffix("?timeout=5"))
    plain = f"sqlite:///{tmp_path / 'plain.db'}"
    assert openable_uri(plain) == plain
