"""Folders that travel between stores: complete or not at all, and nowhere else than they should."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.run.ray import parcels
from harness.run.ray.parcels import Chunk, Complete, Folder, Inbox, Outbox, Parcel

POINT = Folder("points/aa", whole=True)


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"


def inbox(here: Path, *folders: Folder) -> Inbox:
    return Inbox(here, here / "sweeps" / "arriving", folders or (POINT,))


def carry(outbox: Outbox, box: Inbox) -> list[Parcel]:
    sent = list(outbox.parcels())
    for parcel in sent:
        box.put(parcel)
    return sent


def test_a_point_travels_as_it_grows(there: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcels, "CHUNK_BYTES", 3)
    outbox, box = Outbox(there, (POINT,)), inbox(here)
    assert carry(outbox, box) == []
    write(there / "points/aa", partial__tokens="batch 0", partial__empty="", config="x")
    carry(outbox, box)
    assert content(here / "points/aa") == {"partial/tokens": b"batch 0", "partial/empty": b"", "config": b"x"}
    assert carry(outbox, box) == [], "nothing changed"
    write(there / "points/aa", partial__tokens1="batch 1")
    assert {one.name for one in carry(outbox, box) if isinstance(one, Chunk)} == {"partial/tokens1"}
    for path in (there / "points/aa/partial").iterdir():
        path.unlink()
    (there / "points/aa/partial").rmdir()
    (there / "points/aa/tokens.parquet").write_text("all batches")
    (there / "points/aa/parts.json").write_text("{}")
    (there / "points/aa/.parts.json.1-2.part").write_text("being written")
    carry(outbox, box)
    assert content(here / "points/aa") == {
        "tokens.parquet": b"all batches",
        "parts.json": b"{}",
        "config": b"x",
    }
    assert not (here / "points/aa/partial").exists()


def test_what_was_there_before_does_not_travel(there: Path, here: Path) -> None:
    write(there / "points/aa", old="old")
    outbox = Outbox(there, (POINT,))
    outbox.skip()
    write(there / "points/aa", new="new")
    carry(outbox, inbox(here))
    assert content(here / "points/aa") == {"new": b"new"}


def test_the_list_of_what_is_complete_comes_last(
    there: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("parts.json", "a.parquet", "z.parquet", "metrics.json"):
        write(there / "points/aa", **{name: name})
    moved: list[str] = []
    replace = parcels.os.replace
    monkeypatch.setattr(parcels.os, "replace", lambda a, b: (moved.append(b.name), replace(a, b)))
    carry(Outbox(there, (POINT,)), inbox(here))
    assert moved == ["a.parquet", "z.parquet", "metrics.json", "parts.json"]


def test_a_folder_that_changes_meanwhile_is_sent_again(there: Path, here: Path) -> None:
    write(there / "points/aa", table="old", **{"parts.json": "{}"})
    outbox, box = Outbox(there, (POINT,)), inbox(here)
    sending = outbox.parcels()
    box.put(next(sending))
    write(there / "points/aa", **{"parts.json": "{1}"})
    for parcel in sending:
        box.put(parcel)
    assert not (here / "points/aa").exists()
    write(there / "points/aa", table="new")
    carry(outbox, box)
    assert content(here / "points/aa") == {"table": b"new", "parts.json": b"{1}"}


def test_a_sender_that_dies_leaves_the_store_as_it_was(there: Path, here: Path) -> None:
    write(there / "points/aa", a="new", b="new")
    write(here / "points/aa", a="old")
    sent: Sequence[Parcel] = list(Outbox(there, (POINT,)).parcels())
    box = inbox(here)
    for parcel in sent[:-1]:
        box.put(parcel)
    assert content(here / "points/aa") == {"a": b"old"}
    again = inbox(here)
    assert not (here / "sweeps/arriving").exists()
    with pytest.raises(StoreError):
        again.put(sent[-1])
    assert content(here / "points/aa") == {"a": b"old"}


def test_a_file_in_part_is_refused(here: Path) -> None:
    box = inbox(here)
    box.put(Chunk("points/aa", "table", 0, b"half"))
    with pytest.raises(StoreError, match="sent table of points/aa in part"):
        box.put(Complete("points/aa", {"table": 8}, frozenset(["table"])))


HOSTILE = [
    ("points/aa", "../bb/tokens.parquet"),
    ("points/aa", "partial/../../../x"),
    ("points/aa", "/etc/cron.d/x"),
    ("points/aa", "."),
    ("points/aa", ""),
    ("points/aa", "a//b"),
    ("points/aa", "a\\..\\b"),
    ("points/aa", "a\0b"),
    ("points/bb", "tokens.parquet"),
    ("points/aa/../bb", "tokens.parquet"),
    ("", "mlflow.db"),
    ("drift/texts", "other.json"),
    ("drift/heads", "b.safetensors"),
    ("points/aa", "link/x"),
]


@pytest.mark.parametrize(("folder", "name"), HOSTILE)
def test_a_path_that_leads_elsewhere_is_refused(folder: str, name: str, here: Path, tmp_path: Path) -> None:
    folders = (
        POINT,
        Folder("drift/texts", prefixes=("key",)),
        Folder("drift/heads", files=("a.safetensors",)),
    )
    write(here / "points/aa", a="a")
    (tmp_path / "outside").mkdir()
    for base in (here, here / "sweeps/arriving"):
        (base / "points/aa").mkdir(parents=True, exist_ok=True)
        (base / "points/aa/link").symlink_to(tmp_path / "outside")
    before = content(tmp_path)
    box = Inbox.__new__(Inbox)
    box._store, box._staging = here, here / "sweeps/arriving"
    box._folders = {one.path: one for one in folders}
    with pytest.raises(StoreError, match="nothing was written"):
        box.put(Chunk(folder, name, 0, b"evil"))
    with pytest.raises(StoreError, match="nothing was written"):
        box.put(Complete(folder, {name: 4}, frozenset([name])))
    assert content(tmp_path) == before
