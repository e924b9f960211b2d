"""Failures of the hub, each reported in one line; the hub itself is a stand-in."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import errors

from harness.config.point import Model
from harness.errors import ConfigError
from harness.models.hub import fetch_weights
from harness.models.locate import locate

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def response(status: int) -> httpx2.Response:
    return httpx2.Response(status, request=httpx2.Request("GET", "https://hub.invalid/api"))


def refused(
    monkeypatch: pytest.MonkeyPatch, error: Exception, model_id: str = "some/model", **keys: Any
) -> str:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ConfigError) as caught:
        locate(Model(name="m", id=model_id, **keys))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)


@pytest.mark.usefixtures("online")
class TestFailures:
    def test_gated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        message = refused(monkeypatch, errors.GatedRepoError("403\nlong", response=response(403)))
        assert message.startswith("model.id: some/model is gated: request access")
        assert "HF_TOKEN" in message

    def test_not_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        message = refused(monkeypatch, errors.RepositoryNotFoundError("404", response=response(404)))
        assert (
            "'some/model' is neither a built-in model, nor a folder here, nor a model on the hub" in message
        )
        assert "HF_TOKEN if it is private" in message

    def test_revision(self, monkeypatch: pytest.MonkeyPatch) -> None:
        error = errors.RevisionNotFoundError("404", response=response(404))
        message = refused(monkeypatch, error, revision="v9")
        assert message == "model.revision: 'v9' is not a branch, tag or commit of some/model on the hub"

    @pytest.mark.parametrize(
        "cause",
        [httpx2.ConnectError("no route\nto host"), httpx2.ReadTimeout("slow"), ConnectionError("reset")],
    )
    def test_no_answer(self, monkeypatch: pytest.MonkeyPatch, cause: Exception) -> None:
        error = errors.LocalEntryNotFoundError("nothing cached")
        error.__cause__ = cause
        for raised in (error, cause):
            message = refused(monkeypatch, raised)
            assert "the hub does not answer (" in message
            assert "and some/model is not complete in the local cache; try again" in message
            assert str(cause).splitlines()[0] in message
            assert "fable_tiny" in message

    def test_server_errors_and_refused_tokens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        message = refused(
            monkeypatch, errors.HfHubHTTPError("503 Service Unavailable", response=response(503))
        )
        assert "the hub does not answer" in message
        assert "503" in message
        message = refused(monkeypatch, errors.HfHubHTTPError("401", response=response(401)))
        assert "refuses access to some/model with this token; set HF_TOKEN" in message

    def test_impossible_ids(self, monkeypatch: pytest.MonkeyPatch) -> None:
        message = refused(monkeypatch, errors.HFValidationError("bad"), "a--b/..c")
        assert "hub id" in message
        message = refused(monkeypatch, AssertionError("never asked"), "a/b/c")
        assert "there is no folder 'a/b/c', and it is not a valid hub id" in message


def test_offline_without_a_cached_copy_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No stand-in: HF_HUB_OFFLINE=1 is set for all tests, and the cache is empty.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        locate(Model(name="m", id="some/model"))
    assert "HF_HUB_OFFLINE=1 forbids fetching it" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def snapshot(small_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub model of which only the small files are fetched."""
    complete = small_model("llama", shards=3)
    folder = tmp_path / "snapshots" / COMMIT
    shutil.copytree(complete, folder, ignore=shutil.ignore_patterns("*.safetensors"))

    def small(model_id: str, **keys: Any) -> str:
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", small)

    def info(self: Any, model_id: str, revision: str) -> Any:
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=path.name) for path in complete.iterdir()])

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)

    def metadata(self: Any, model_id: str, revision: str) -> Any:
        tensors = {
            "a": SimpleNamespace(dtype="F16", shape=[2, 3]),
            "b": SimpleNamespace(dtype="F16", shape=[5]),
        }
        return SimpleNamespace(files_metadata={"x": SimpleNamespace(tensors=tensors)})

    monkeypatch.setattr(huggingface_hub.HfApi, "get_safetensors_metadata", metadata)

    def fetch(model_id: str, name: str, revision: str) -> str:
        assert revision == COMMIT
        shutil.copy(complete / name, folder / name)
        return str(folder / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    return folder


def test_a_hub_model_is_described_before_its_weights_are_fetched(snapshot: Path) -> None:
    files = locate(Model(name="m", id="some/model"))
    assert (files.revision, files.fingerprint, files.folder) == (COMMIT, COMMIT, snapshot)
    assert len(files.weight_files) >= 3
    # As transformers does, config.json says what it runs in, whatever its tensors are stored as.
    assert [(tensor.numel, tensor.nbytes) for tensor in files.tensors] == [(6, 12), (5, 10)]
    assert files.checkpoint_dtype == "float32"


def test_weights_are_fetched_file_by_file_with_progress(snapshot: Path) -> None:
    files = locate(Model(name="m", id="some/model"))
    seen: list[tuple[str, float]] = []
    folder = fetch_weights(
        files.id, files.revision, files.weight_files, lambda name, fraction: seen.append((name, fraction))
    )
    assert folder == snapshot
    assert [name for name, _ in seen] == list(files.weight_files)
    assert [fraction for _, fraction in seen] == [index / len(seen) for index in range(len(seen))]
    assert locate(Model(name="m", id="some/model")).tensors[0].dtype == "F32"


def test_a_hub_model_loads(snapshot: Path, one_thread: None) -> None:
    from harness.config.point import Quantization
    from harness.models.load import load

    loaded = load(Model(name="m", id="some/model"), Quantization(name="none"))
    assert (loaded.facts["revision"], loaded.facts["weight_files"]) == (
        COMMIT,
        len(loaded.files.weight_files),
    )
