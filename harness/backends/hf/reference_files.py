"""A reference's distributions along passages, stored on disk within a budget.

They are stored exactly where the model's logits follow from the input of its output head: one hidden state
per token, beside one copy of the head. Otherwise, or if the head is too large for the budget, the likeliest
tokens are stored, with two sums over the others. Files are complete once they appear, the index last.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.backends.hf.divergence import TopTokens, top_tokens
from harness.backends.hf.output_head import LogitsTransform, OutputHead, linear_head
from harness.backends.hf.teacher_forcing import TeacherForcing
from harness.prompts.passages import Passage
from harness.store.files import atomic_path, read_json, write_text
from harness.store.reference_index import INDEX, ReferenceIndex, chunk_path, read_index, write_index

_CHUNK_BYTES = 8 * 2**20
_CHUNK_POSITIONS = 4096
_MIN_TOP = 64
"""Fewer likeliest tokens per position are not useful; a smaller budget stores fewer passages instead."""
_TOP_TOKEN_BYTES = 8  # id and logprob
_TOP_POSITION_BYTES = 32  # the two sums over the other tokens, and the text's own token


@dataclass(frozen=True)
class StorageFormat:
    """How distributions are stored, of which `capacity` positions fit the budget.

    `kind` is `hidden` (hidden states, exact; k is 0) or `top` (the k likeliest tokens of each position).
    """

    kind: str
    row_bytes: int
    k: int
    capacity: int


def storage_format(head: OutputHead | None, vocabulary: int, positions: int, budget: int) -> StorageFormat:
    """Return the format that stores as many of the positions as possible within a budget.

    The budget is in bytes, a copy of the head included; `head` is None if logits do not follow from it.
    """
    if head is not None and head.weight is not None:
        row_bytes = head.weight.shape[1] * head.weight.element_size()
        # If the head takes most of the budget, few positions are left: their likeliest tokens are worth more.
        if head.size_bytes + positions * row_bytes <= budget or head.size_bytes <= budget // 2:
            return StorageFormat("hidden", row_bytes, 0, max(0, budget - head.size_bytes) // row_bytes)
    k = (budget // max(1, positions) - _TOP_POSITION_BYTES) // _TOP_TOKEN_BYTES
    k = min(vocabulary, max(_MIN_TOP, k))
    row_bytes = k * _TOP_TOKEN_BYTES + _TOP_POSITION_BYTES
    return StorageFormat("top", row_bytes, k, budget // row_bytes)


def write_reference(
    forced: TeacherForcing,
    passages: Iterable[Passage],
    folder: Path,
    heads: Path,
    storage: StorageFormat,
    limit: int,
    share: int,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Store the distributions along passages as `Distributions.keep_reference`, up to `limit` positions.

    Chunks that an interrupted process has written are not computed again. `advance` is called with the number
    of positions stored since the last call.
    """
    head = _store_head(forced.head, heads) if storage.kind == "hidden" else None
    plan = {
        "kind": storage.kind, "k": storage.k, "head": head, "row_bytes": storage.row_bytes, "limit": limit,
    }  # fmt: skip
    plan_path = folder / "plan.json"
    if read_json(plan_path) != plan:
        shutil.rmtree(folder, ignore_errors=True)
        write_text(plan_path, json.dumps(plan) + "\n")
    chunk_sizes: list[int] = []
    positions = left_out = 0
    full = False
    for chunk in _chunked(passages, min(_CHUNK_POSITIONS, max(1, _CHUNK_BYTES // storage.row_bytes))):
        fitting = []
        for passage in chunk:
            full = full or positions + len(passage) > limit
            if full:
                left_out += 1
            else:
                fitting.append(passage)
                positions += len(passage)
        if not fitting:
            continue
        path = chunk_path(folder, len(chunk_sizes))
        if not _can_be_loaded(path):
            _save(path, _chunk_tensors(forced, fitting, storage))
        chunk_sizes.append(len(fitting))
        advance(sum(map(len, fitting)))
    index = ReferenceIndex(
        kind=storage.kind, k=storage.k, head=head, pieces=tuple(chunk_sizes), positions=positions,
        left_out=left_out, bytes=positions * storage.row_bytes, share=share,
        processing=asdict(forced.head.transform) if forced.head and head else {},
    )  # fmt: skip
    write_index(folder, index)
    plan_path.unlink(missing_ok=True)


class StoredReference:
    """The stored distributions of a reference, read along the passages that they were computed for."""

    def __init__(self, folder: Path, heads: Path, device: str) -> None:
        """Open a folder; FileNotFoundError if it has no complete index."""
        index = read_index(folder)
        if index is None:
            raise FileNotFoundError(folder / INDEX)
        self.index: ReferenceIndex = index
        self._folder = folder
        self._device = device
        self._head: OutputHead | None = None
        if index.head is not None:
            path = heads / f"{index.head}.safetensors"
            if _name_of(path) != index.head:
                # Missing or damaged: the head, and what is worth nothing without it, are stored again.
                path.unlink(missing_ok=True)
                (folder / INDEX).unlink()
                raise FileNotFoundError(path)
            tensors = _load(path, device)
            transform = LogitsTransform(**index.processing)
            self._head = linear_head(tensors["weight"], tensors.get("bias"), transform)

    def chunks(self, passages: Iterable[Passage]) -> Iterator[tuple[int, list[Passage]]]:
        """Yield the stored ones of the passages, chunk by chunk, each with the chunk's number."""
        remaining = iter(passages)
        for number, count in enumerate(self.index.pieces):
            yield number, list(islice(remaining, count))

    def read(
        self, chunk: int, passages: Sequence[Passage]
    ) -> Iterator[Callable[[int, int], Tensor | TopTokens]]:
        """Yield, for each passage of a chunk, a function that returns the distributions of scored tokens.

        It takes their start and end; it returns logits where hidden states are stored, else top tokens.
        """
        columns = _load(chunk_path(self._folder, chunk), self._device)

        def distributions(offset: int, start: int, end: int) -> Tensor | TopTokens:
            rows = slice(offset + start, offset + end)
            if self._head is not None:
                return self._head.logits(columns["hidden"][rows])
            top = TopTokens(**columns)[rows]
            return replace(top, ids=top.ids.long(), rank=top.rank.long())

        offset = 0
        for passage in passages:
            yield partial(distributions, offset)
            offset += len(passage)


class PreallocatedColumns:
    """Columns by name, on the CPU, of a fixed number of rows that are filled a few at a time.

    They are allocated at once: small tensors that stay, allocated between large ones that are freed, would
    keep the allocator from using the memory of the large ones again.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._filled = 0
        self.columns: dict[str, Tensor] = {}

    def append(self, rows: Mapping[str, Tensor]) -> None:
        """Fill in the next rows of all columns; the first that are appended give names and types."""
        end = self._filled
        for name, values in rows.items():
            if name not in self.columns:
                self.columns[name] = torch.empty((self._rows, *values.shape[1:]), dtype=values.dtype)
            end = self._filled + len(values)
            self.columns[name][self._filled : end] = values
        self._filled = end


def _chunk_tensors(
    forced: TeacherForcing, passages: Sequence[Passage], storage: StorageFormat
) -> dict[str, Tensor]:
    """Compute what is stored of some passages, one after the other."""
    stored = PreallocatedColumns(sum(map(len, passages)))
    if storage.kind == "hidden":
        for _, hidden in forced.hidden_states(passages):
            stored.append({"hidden": hidden})
        return stored.columns
    for passage, slices in forced.logits(passages):
        for start, logits in slices:
            tokens = torch.tensor(passage.target_ids[start : start + len(logits)], device=logits.device)
            top = top_tokens(logits, tokens, storage.k)
            stored.append(replace(top, ids=top.ids.int(), rank=top.rank.int()).columns())
    return stored.columns


def _chunked(passages: Iterable[Passage], positions: int) -> Iterator[list[Passage]]:
    """Group passages into chunks of about so many positions."""
    chunk: list[Passage] = []
    filled = 0
    for passage in passages:
        chunk.append(passage)
        filled += len(passage)
        if filled >= positions:
            yield chunk
            chunk, filled = [], 0
    if chunk:
        yield chunk


def _store_head(head: OutputHead | None, heads: Path) -> str:
    """Store one copy of a head under the hash of its tensors; return the hash."""
    assert head is not None
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in head.tensors().items()}
    name = _hash(tensors)
    path = heads / f"{name}.safetensors"
    if _name_of(path) != name:
        _save(path, tensors)
    return name


def _name_of(path: Path) -> str | None:
    """Return the hash of a stored head; None where it cannot be loaded."""
    return _hash(load_file(path)) if _can_be_loaded(path) else None


def _can_be_loaded(path: Path) -> bool:
    """Return whether a file is there and its header fits its size."""
    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, SafetensorError):
        return False


def _hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for name, tensor in sorted(tensors.items(), reverse=True):  # weight, bias
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with atomic_path(path) as scratch:
        scratch.touch()  # safetensors would give the file other permissions than all other files have
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, scratch)


def _load(path: Path, device: str) -> dict[str, Tensor]:
    # Cloned: tensors of a file begin where its header ends, and how products round can depend on alignment.
    return {name: tensor.clone().to(device) for name, tensor in load_file(path).items()}
