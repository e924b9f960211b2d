"""Passwords and tokens that are planted in a command and its environment turn up nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow_runs import statuses

from harness.cli.main import main
from harness.config.hydra_app import one_point
from harness.config.secret_text import bare_address, safe_address, without_secrets
from harness.plan.plan import make_plan
from harness.run.planned_points import read_plan, write_points

SECRET = "hush"
"""In every planted secret."""
BASE = [
    "model=fable_tiny",
    "quantization=fp32",
    "decoding=greedy",
    "generation.max_new_tokens=2",
    "prompts.limit=1",
    "engine.threads=1",
    "timing=off",
]
PLACE = "127.0.0.1:9"
ADDRESSES = [
    f"http://ada:hush-1@{PLACE}",
    f"http://hush-2@{PLACE}/prefix",
]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets of the environment that MLflow and the hub read."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    for name in ("MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, f"hush-{name}")


@pytest.fixture
def nothing_shows(
    outputs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], str]:
    """`nothing_shows()`: no file, line or record has a secret; returns what was printed and logged."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")

    def check() -> str:
        printed = capsys.readouterr()
        text = printed.out + printed.err + caplog.text
        assert SECRET not in text
        files = [path for path in outputs.rglob("*") if path.is_file()]
        found = [path for path in files if SECRET.encode() in path.read_bytes()]
        assert found == []
        return text

    return check


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("key", ["tracking.uri", "MLFLOW_TRACKING_URI"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_of_a_server_that_does_not_answer(
    nothing_shows: Callable[[], str],
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    address: str,
) -> None:
    words = [*BASE, "+hydra.job.env_set.WORD=hush-5"]
    if key == "MLFLOW_TRACKING_URI":
        monkeypatch.setenv(key, address)
    else:
        words.append(f"tracking.uri='{address}'")
    assert main(words) == 0
    (plan,) = outputs.glob("sweeps/*/plan.json")
    if key == "tracking.uri":
        assert f'"uri": "{safe_address(address)}"' in plan.read_text()
        assert main(["sync"]) == 2
        assert "set MLFLOW_TRACKING_URI to the whole address" in nothing_shows()
        # The cure that was printed.
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert main(["sync"]) == 1
    assert main(["ui"]) == 2
    assert main(["report"]) == 0
    text = nothing_shows()
    assert f"logging to MLflow at {safe_address(address)} failed" in text
    assert f"the MLflow server at http://{PLACE}" in text


@pytest.mark.usefixtures("planted")
def test_nothing_arrives_in_mlflow(
    store: str, nothing_shows: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*BASE, f"tracking.uri='{ADDRESSES[0]}'"]) == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESSES[1])
    words = ["-m", *BASE, "decoding=greedy,top_p", "+hydra.job.env_set.WORD=hush-5", f"tracking.uri={store}"]
    assert main([*words, "tracking.traces=true"]) == 0
    assert main(["sync"]) == 0
    assert set(statuses(store, "generation").values()) == {"FINISHED"}
    nothing_shows()


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    "words",
    [
        ["tracking.uri=htp://ada:hush@host"],
        ["tracking.uri='http://ada:hush@host:port'"],
        ["tracking.uri='http://host/?token=hush'"],
        ["tracking.uri='mysql+nothing://ada:hush@host/db'"],
        ["tracking.uri='mysql+nothing://host/db?password=hush&ssl=1'"],
        ["traking.uri=http://ada:hush@host"],
        ["tracking.url=http://ada:hush@host"],
        ["tracking=http://ada:hush@host"],
        ["tracking.uri=[http://ada:hush@host"],
        ["tracking.traces=http://ada:hush@host"],
        ["model.id=https://ada:hush@huggingface.co/gpt2"],
        ["prompts.file=https://ada:hush@host/prompts.jsonl?signature=hush"],
    ],
)
def test_no_mistake_shows_one(nothing_shows: Callable[[], str], words: list[str]) -> None:
    for full in ("0", "1"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HYDRA_FULL_ERROR", full)
            assert main(["check", *BASE, *words]) == 2
            assert "***" in nothing_shows()


@pytest.mark.usefixtures("planted")
def test_the_failure_of_a_point_shows_none(
    nothing_shows: Callable[[], str], monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("GET https://ada:hush@host/model?X-Amz-Signature=hush&part=1 failed")

    monkeypatch.setattr("harness.artifacts.artifact.Workbench.backend", property(fail))
    assert main(BASE) == 1
    assert "https://***@host/model?X-Amz-Signature=***&part=1 failed" in nothing_shows()
    assert list(statuses(store, "generation").values()) == ["FAILED"]


def test_the_points_for_workers_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_plan([one_point([*BASE, f"tracking.uri='{ADDRESSES[0]}'"])], "sweep")
    write_points(plan)
    assert SECRET not in (plan.folder / "points.json").read_text()
    assert read_plan(str(plan.folder)).sweep_id == plan.sweep_id


@pytest.mark.parametrize(
    ("address", "safe", "bare"),
    [
        ("http://host:5000/x", "http://host:5000/x", "http://host:5000/x"),
        ("https://ada:p@ss/w?rd@host/x", "https://***@host/x", "https://host/x"),
        ("postgresql://ada@host/db", "postgresql://***@host/db", "postgresql://host/db"),
        (
            "mysql+pymysql://host/db?user=ada&password=p&charset=utf8",
            "mysql+pymysql://host/db?user=ada&password=***&charset=utf8",
            "mysql+pymysql://host/db",
        ),
        ("sqlite:////home/a:b@c/x.db", "sqlite:////home/a:b@c/x.db", "sqlite:////home/a:b@c/x.db"),
        ("databricks", "databricks", "databricks"),
    ],
)
def test_an_address_without_its_secrets(address: str, safe: str, bare: str) -> None:
    assert safe_address(address) == safe
    assert safe_address(safe) == safe
    assert bare_address(address) == bare
    assert without_secrets(f"x {address} y, a@b") == f"x {safe} y, a@b"
