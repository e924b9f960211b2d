"""A file that the system does not let be read is not damaged: nothing is deleted or made again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harness.cli.main import main
from harness.errors import StoreError
from harness.store.files import read_json
from harness.store.integrity import problem_of, seal
from harness.store.parquet_files import open_parquet

COMMAND = [
    "model=fable_tiny", "quantization=fp32", "decoding=greedy", "prompts.limit=1", "engine.threads=1",
    "generation.max_new_tokens=3", "timing=off", "compare.noise=false", "tracking=off",
]  # fmt: skip
CODES = [errno.EMFILE, errno.EACCES, errno.EIO]


@contextmanager
def unreadable(name: str, code: int) -> Iterator[None]:
    """Let every way to open a file of this name fail."""

    def failing(original: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Any, *args: Any, **options: Any) -> Any:
            if Path(str(path)).name == name:
                raise OSError(code, os.strerror(code), str(path))
            return original(path, *args, **options)

        return opened

    with pytest.MonkeyPatch.context() as patch:
        for owner, method in ((Path, "open"), (Path, "read_bytes"), (pq, "ParquetFile")):
            patch.setattr(owner, method, failing(getattr(owner, method)))
        yield


@pytest.mark.parametrize("code", CODES)
def test_every_reader_says_that_the_system_is_to_blame(tmp_path: Path, code: int) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}")
    sealed = seal(path)
    os.utime(path, (1, 1))  # so that its checksum is not known any more
    readers = (
        lambda: read_json(path),
        lambda: problem_of(path, sealed, "x", thorough=True),
        lambda: open_parquet(path).__enter__(),
    )
    with unreadable("a.json", code):
        for reader in readers:
            with pytest.raises(StoreError, match=r"a\.json cannot be read \(.*\); nothing was changed"):
                reader()


@pytest.mark.thinned(3)
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", ["tokens.parquet", "parts.json", "metrics.json"])
def test_nothing_is_deleted_and_the_command_says_why(
    outputs: Path, capsys: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    assert main(COMMAND) == 0
    (path,) = (outputs / "points").glob(f"*/{name}")
    before = {each: each.read_bytes() for each in path.parent.iterdir()}
    os.utime(path, (1, 1))
    capsys.readouterr()
    with unreadable(name, code):
        assert main(COMMAND) == 1
    said = capsys.readouterr()
    assert f"{name} cannot be read ({os.strerror(code)}); nothing was changed" in said.out + said.err
    assert "unexpected" not in said.out + said.err
    assert {each: each.read_bytes() for each in path.parent.iterdir()} == before
    assert main(COMMAND) == 0
    assert "reused" in capsys.readouterr().out


def test_many_points_are_compared_with_few_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.analysis.text_overlap import text_overlap
    from harness.store.stored_point import StoredPoint

    monkeypatch.setenv("HARNESS_OUTPUTS", str(tmp_path))
    assert main(COMMAND) == 0
    (folder,) = (tmp_path / "points").iterdir()
    opened = most = 0
    honest = pq.ParquetFile

    class Counted(honest):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **options: Any) -> None:
            nonlocal opened, most
            super().__init__(*args, **options)
            opened += 1
            most = max(most, opened)

        def __exit__(self, *args: Any) -> None:
            nonlocal opened
            super().__exit__(*args)
            opened -= 1

    monkeypatch.setattr(pq, "ParquetFile", Counted)
    found = text_overlap([StoredPoint(folder)] * 50)
    assert list(found.disagreement.values()) == [0.0]
    assert most == 1
