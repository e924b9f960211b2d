"""What a group's worker needs of the head's files where it does not see them, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.artifacts.job import Job
from harness.plan.plan import Plan
from harness.run.ray.parcels import Folder
from harness.store.files import read_json
from harness.store.reference_index import INDEX, heads_folder, samples_folder, text_folder
from harness.store.stored_point import stored_point

LARGEST_FILE = 64 * 2**20
"""A file of the working folder that is larger is not sent: it is weights."""


def gives(jobs: Sequence[Job]) -> tuple[Folder, ...]:
    """Return the folders of a worker's store that come back: output heads before what needs them."""
    texts = _texts(jobs)
    shared = (Folder("drift/heads"), *([Folder("drift/texts", prefixes=texts)] if texts else []))
    return (*shared, *(Folder(f"points/{point_id}", whole=True) for point_id in _ids(jobs)))


def gets(plan: Plan, jobs: Sequence[Job]) -> tuple[Folder, ...]:
    """Return the folders that a worker gets: its points as far as they are, those they are compared with."""
    references = {job.drift.reference: None for job in jobs if job.drift.reference is not None}
    points = (*_ids(jobs), *(one for one in references if one not in _ids(jobs)))
    texts = _texts(jobs)
    folders = [samples_folder(stored_point(plan.outputs, point_id)) for point_id in points]
    folders += [text_folder(plan.outputs, key) for key in texts]
    heads = tuple(f"{head}.safetensors" for head in sorted(set(_heads(plan.outputs, folders))))
    found = [Folder(f"points/{point_id}") for point_id in points]
    if texts:
        found.append(Folder("drift/texts", prefixes=texts))
    if heads:
        found.append(Folder("drift/heads", files=heads))
    return tuple(found)


def named_files(jobs: Sequence[Job], folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the files below a working folder that points name, and what is too large to be sent.

    Returns:
        The files' paths in the folder; and of folders and large files, weights mostly, their paths in it and
        on this machine, where the node may have them too.
    """
    files: dict[str, None] = {}
    links: dict[str, str] = {}
    for text in {text for job in jobs for text in _texts_of(job.point.model_dump(mode="json"))}:
        for name in {text, text.rpartition(":")[0]}:
            path = Path(name)
            if not name or len(name) > 1024 or "\0" in name or path.is_absolute() or ".." in path.parts:
                continue
            name = path.as_posix()
            with suppress(OSError):
                found = folder / name
                if name == "." or any(one.startswith(".") for one in path.parts):
                    continue
                if found.is_file() and found.stat().st_size <= LARGEST_FILE:
                    files[name] = None
                elif found.exists():
                    links[name] = str(found.resolve())
    return tuple(sorted(files)), links


def _ids(jobs: Sequence[Job]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(job.point_id for job in jobs))


def _texts(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Return the keys of the fixed texts that jobs are evaluated on, and of their references'."""
    roles = [job.drift.fixed_text for job in jobs if job.drift.fixed_text is not None]
    return tuple(dict.fromkeys(key for role in roles for key in (role.key, role.reference) if key))


def _heads(outputs: Path, folders: Sequence[Path]) -> Iterator[str]:
    """Yield the names of the output heads that stored distributions need."""
    for folder in folders:
        index = read_json(folder / INDEX) if (folder / INDEX).is_file() else None
        head = index.get("head") if isinstance(index, dict) else None
        if isinstance(head, str) and (heads_folder(outputs) / f"{head}.safetensors").is_file():
            yield head


def _texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts_of(inner)
