"""A reference's distributions along its texts, kept on disk within a budget.

Where the model's head can be told from the rest of it, what is kept is exact: the head's input, one hidden
state a token, beside one copy of the head. Where it cannot, or where the head alone is too large, the
likeliest tokens are kept, with the mass of the rest and its sum of p log p. Pieces and index appear whole,
the index last.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.backends.hf.divergence import Top, top_of
from harness.backends.hf.output_head import Head, Processing, plain_head
from harness.backends.hf.teacher_forcing import Reader
from harness.prompts.passages import Passage
from harness.store.files import atomic_path, write_text
from harness.store.reference_index import INDEX, ReferenceIndex, read_index

_PIECE_BYTES = 8 * 2**20
_PIECE_POSITIONS = 4096
_LEAST_TOP = 64
"""Fewer likeliest tokens than these are not kept of a position; of fewer texts, rather."""
_TOP_BYTES = 8  # of a likeliest token: its id and its logprob
_REST_BYTES = 32  # of a position besides: the rest, and the token that came

Told = Callable[[int], None]
Rows = Tensor | Top


@dataclass(frozen=True)
class Form:
    """How distributions are kept.

    Attributes:
        kind: `hidden` or `top`.
        row_bytes: of a position.
        k: likeliest tokens kept; 0 where hidden states are.
        positions: how many fit the budget.
    """

    kind: str
    row_bytes: int
    k: int
    positions: int


def form_of(head: Head | None, vocabulary: int, positions: int, budget: int) -> Form:
    """How as many as possible of these positions are kept within a budget.

    Args:
        head: of the reference; None where its logits cannot be made of hidden states.
        vocabulary: entries of a distribution.
        positions: that are to be kept, at the most.
        budget: bytes, a copy of the head included.
    """
    if head is not None and head.weight is not None:
        size = head_bytes(head)
        row = head.weight.shape[1] * head.weight.element_size()
        # A head that takes most of the budget leaves few positions; their likeliest tokens say more.
        if size + positions * row <= budget or size <= budget // 2:
            return Form("hidden", row, 0, max(0, budget - size) // row)
    k = (budget // max(1, positions) - _REST_BYTES) // _TOP_BYTES
    k = min(vocabulary, max(_LEAST_TOP, k))
    row = k * _TOP_BYTES + _REST_BYTES
    return Form("top", row, k, budget // row)


def head_bytes(head: Head) -> int:
    """Bytes of a head's weight and bias."""
    tensors = [tensor for tensor in (head.weight, head.bias) if tensor is not None]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def keep(
    reader: Reader,
    passages: Iterator[Passage],
    folder: Path,
    heads: Path,
    form: Form,
    limit: int,
    share: int,
    told: Told = lambda _: None,
) -> None:
    """Keep the distributions along passages, in their order, as far as a limit reaches.

    What a process that died has left is gone on with.

    Args:
        reader: of the reference.
        passages: its texts.
        folder: of what is kept.
        heads: folder of the heads, which several folders share.
        form: how they are kept.
        limit: positions that are kept at most; a text is kept whole or not at all.
        share: bytes of the budget that are these texts', to be noted.
        told: called with the number of positions done.
    """
    head = _keep_head(reader.head, heads) if form.kind == "hidden" else None
    facts = {"kind": form.kind, "k": form.k, "head": head, "row_bytes": form.row_bytes, "limit": limit}
    plan = folder / "plan.json"
    if not plan.is_file() or json.loads(plan.read_text(encoding="utf-8")) != facts:
        shutil.rmtree(folder, ignore_errors=True)
        write_text(plan, json.dumps(facts) + "\n")
    pieces: list[int] = []
    positions = left_out = 0
    full = False
    for piece in _pieces(passages, min(_PIECE_POSITIONS, max(1, _PIECE_BYTES // form.row_bytes))):
        fitting = []
        for passage in piece:
            full = full or positions + len(passage) > limit
            if full:
                left_out += 1
            else:
                fitting.append(passage)
                positions += len(passage)
        if not fitting:
            continue
        path = folder / f"{len(pieces):06d}.safetensors"
        if not path.is_file():
            _save(path, _tensors(reader, fitting, form))
        pieces.append(len(fitting))
        told(sum(map(len, fitting)))
    found = ReferenceIndex(
        kind=form.kind, k=form.k, head=head, pieces=tuple(pieces), positions=positions, left_out=left_out,
        bytes=positions * form.row_bytes, share=share,
        processing=asdict(reader.head.processing) if reader.head and head else {},
    )  # fmt: skip
    write_text(folder / INDEX, json.dumps(asdict(found)) + "\n")
    plan.unlink(missing_ok=True)


class Distributions:
    """What was kept of a reference, to be read along the same passages."""

    def __init__(self, folder: Path, heads: Path, device: str) -> None:
        """Open what lies in a folder.

        Raises:
            FileNotFoundError: nothing whole is there.
        """
        found = read_index(folder)
        if found is None:
            raise FileNotFoundError(folder / INDEX)
        self.index: ReferenceIndex = found
        self._folder = folder
        self._device = device
        self._head: Head | None = None
        if found.head is not None:
            tensors = _load(heads / f"{found.head}.safetensors", device)
            processing = Processing(**found.processing)
            self._head = plain_head(tensors["weight"], tensors.get("bias"), processing)

    def pieces(self, passages: Iterator[Passage]) -> Iterator[tuple[int, list[Passage]]]:
        """The passages that were kept, and the number of the piece they lie in."""
        for number, count in enumerate(self.index.pieces):
            yield number, list(islice(passages, count))

    def read(self, number: int, passages: Sequence[Passage]) -> Iterator[Callable[[int, int], Rows]]:
        """Of each passage of a piece, a function that tells its distributions from one position to another.

        As logits, exact, or by their likeliest tokens.
        """
        tensors = _load(self._folder / f"{number:06d}.safetensors", self._device)
        start = 0
        for passage in passages:
            yield self._teller(tensors, start)
            start += len(passage)

    def _teller(self, tensors: dict[str, Tensor], offset: int) -> Callable[[int, int], Rows]:
        def rows(start: int, end: int) -> Rows:
            place = slice(offset + start, offset + end)
            if self._head is not None:
                return self._head.logits(tensors["hidden"][place])
            found = {name: values[place] for name, values in tensors.items()}
            return Top(**found | {"ids": found["ids"].long(), "rank": found["rank"].long()})

        return rows


def _tensors(reader: Reader, passages: Sequence[Passage], form: Form) -> dict[str, Tensor]:
    """What is kept of some passages, one after the other."""
    rows = Gathered(sum(map(len, passages)))
    if form.kind == "hidden":
        for _, hidden in reader.hidden(passages):
            rows.add({"hidden": hidden})
        return rows.columns
    for passage, chunks in reader.logits(passages):
        for start, logits in chunks:
            tokens = torch.tensor(passage.target_ids[start : start + len(logits)], device=logits.device)
            top = top_of(logits, tokens, form.k)
            found = {name: getattr(top, name) for name in Top.__dataclass_fields__}
            rows.add(found | {"ids": top.ids.int(), "rank": top.rank.int()})
    return rows.columns


class Gathered:
    """Columns on the CPU that are filled a few rows at a time.

    They are laid out at once: small tensors that stay, made between large ones that go, would keep the
    allocator from using those large places again.

    Attributes:
        columns: by name, all rows of each.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._done = 0
        self.columns: dict[str, Tensor] = {}

    def add(self, some: Mapping[str, Tensor]) -> None:
        """The next rows."""
        end = self._done
        for name, values in some.items():
            if name not in self.columns:
                self.columns[name] = torch.empty((self._rows, *values.shape[1:]), dtype=values.dtype)
            end = self._done + len(values)
            self.columns[name][self._done : end] = values
        self._done = end


def _pieces(passages: Iterator[Passage], positions: int) -> Iterator[list[Passage]]:
    """Passages cut into pieces of about so many positions."""
    piece: list[Passage] = []
    held = 0
    for passage in passages:
        piece.append(passage)
        held += len(passage)
        if held >= positions:
            yield piece
            piece, held = [], 0
    if piece:
        yield piece


def _keep_head(head: Head | None, heads: Path) -> str:
    """Keep one copy of a head, under the hash of its weights; returns that."""
    assert head is not None
    assert head.weight is not None
    tensors = {"weight": head.weight} | ({} if head.bias is None else {"bias": head.bias})
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    known = hashlib.blake2b(digest_size=12)
    for name, tensor in tensors.items():
        known.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        known.update(tensor.view(torch.uint8).numpy().data)
    path = heads / f"{known.hexdigest()}.safetensors"
    if not path.is_file():
        _save(path, tensors)
    return known.hexdigest()


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_path(path) as scratch:
        scratch.touch()  # with the permissions of all other files; made by safetensors it has its own
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, scratch)


def _load(path: Path, device: str) -> dict[str, Any]:
    # Cloned: a file's tensors lie where its header ends, and how products round may hang on that.
    return {name: tensor.clone().to(device) for name, tensor in load_file(path).items()}
