"""Columns of token data as a chunk of a page: packed here, read in the page by `templates/js/columns.js`.

A chunk is one line of JSON, its header, followed by the bytes of the columns of its blocks, in their order:

    {"columns": [[["token", "u24", 1], ["logprob", "f16", 1], ["top_tokens", "u24", 5], ...], ...],
     "blocks": [{"point": 0, "sample": 0, "steps": 41, "columns": 0}, ...]}

`columns` has the distinct lists of columns, a column being its name, its type and its values per step; a
block refers to its list by index. The types are `u24`, an unsigned integer of three bytes (0xFFFFFF: none);
`f16`, a half-precision float, which keeps a logprob to 1 part in 2,000; and `f24`, the upper three bytes of a
float32, which keep 1 part in 60,000 of numbers over many powers of ten. A column is stored byte plane by byte
plane, all lowest bytes first, because gzip compresses that better.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.report.page.shell import packed, safe_json
from harness.store.token_table import UNKNOWN_ID, TokenVocabulary

NONE = 0xFFFFFF
"""The `u24` of an alternative that is missing."""

TOKENS = ("token", "top_tokens", "drift_top_tokens")
"""Columns of indices into the vocabulary."""

_TYPES = {
    **dict.fromkeys((*TOKENS, "rank", "kept", "drift_rank", "same_top"), "u24"),
    **dict.fromkeys(("kl", "kl_error", "logprob_change"), "f24"),
}
"""By name; other columns are `f16`."""


@dataclass(frozen=True)
class Block:
    """The T steps of one sample in a page: the facts of its header, and its columns by name.

    A column is (T,) or, of k alternatives, (T, k). Tokens are indices of a TokenVocabulary, -1 where an
    alternative is missing.
    """

    facts: Mapping[str, Any]
    columns: Mapping[str, np.ndarray]


def recorded(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns that have any value: not those that a backend left null."""
    return {
        name: column
        for name, column in columns.items()
        if (~np.isnan(column) if column.dtype.kind == "f" else column >= 0).any()
    }


class PageVocabulary:
    """The tokens that the chunks of a page refer to, out of all `tokens` that were read for its blocks."""

    def __init__(self, tokens: TokenVocabulary) -> None:
        self.tokens = tokens
        self._kept: list[int] = []
        self._index = np.empty(0, np.int64)

    def add(self, tokens: np.ndarray) -> None:
        """Add these tokens, where they are new."""
        index = self._indices()
        for token in tokens[index[tokens] < 0].tolist():
            index[token] = len(self._kept)
            self._kept.append(token)

    def size_of(self, tokens: np.ndarray) -> int:
        """Return the characters of a page that adding these tokens would take, at the most."""
        new = tokens[self._indices()[tokens] < 0].tolist()
        return sum(len(safe_json(self._entry(token))) for token in new) * 4 // 3

    def indices_of(self, tokens: np.ndarray) -> np.ndarray:
        """Return the indices of these tokens in the page; NONE for -1."""
        return np.where(tokens < 0, NONE, self._indices()[tokens])

    def as_json(self) -> tuple[list[int | None], list[str]]:
        """Return the ids, None where only a text is known, and the texts."""
        entries = [self._entry(token) for token in self._kept]
        return [token_id for token_id, _ in entries], [text for _, text in entries]

    def _entry(self, token: int) -> tuple[int | None, str]:
        token_id = self.tokens.ids[token]
        return None if token_id == UNKNOWN_ID else token_id, self.tokens.texts[token]

    def _indices(self) -> np.ndarray:
        """Return the index in the page of each token that was read; -1 where it is not in the page."""
        new = len(self.tokens.ids) - len(self._index)
        if new:
            self._index = np.pad(self._index, (0, new), constant_values=-1)
        return self._index


def tokens_of(blocks: Iterable[Block]) -> np.ndarray:
    """Return the distinct tokens of these blocks, alternatives included."""
    named = [block.columns[name].reshape(-1) for block in blocks for name in TOKENS if name in block.columns]
    distinct = np.unique(np.concatenate(named)) if named else np.empty(0, np.int64)
    return distinct[distinct >= 0]


def pack(blocks: Sequence[Block], vocabulary: PageVocabulary) -> str:
    """Return the chunk of these blocks; their tokens must be in the vocabulary."""
    layouts: dict[str, int] = {}
    heads = []
    raw: list[bytes] = []
    for block in blocks:
        layout = []
        for name, column in block.columns.items():
            kind = _TYPES.get(name, "f16")
            layout.append([name, kind, 1 if column.ndim == 1 else column.shape[1]])
            raw.append(_ENCODERS[kind](vocabulary.indices_of(column) if name in TOKENS else column))
        steps = len(next(iter(block.columns.values()), ()))
        index = layouts.setdefault(safe_json(layout), len(layouts))
        heads.append({**block.facts, "steps": steps, "columns": index})
    header = f'{{"columns":[{",".join(layouts)}],"blocks":{safe_json(heads)}}}\n'
    return packed(b"".join([header.encode("ascii"), *raw]))


def _planes(values: np.ndarray, count: int) -> bytes:
    """Return the `count` lowest bytes of little-endian values as so many planes of bytes."""
    return values.view(np.uint8).reshape(-1, values.itemsize)[:, :count].T.tobytes()


def u24(values: Any) -> bytes:
    """Return numbers from 0 to NONE as three planes of bytes; NaN as 0."""
    return _planes(np.clip(np.nan_to_num(np.asarray(values).reshape(-1)), 0, NONE).astype("<u4"), 3)


def f16(values: Any) -> bytes:
    """Return half-precision floats as two planes of bytes; a larger one is infinite."""
    with np.errstate(over="ignore"):
        halves = np.asarray(values, np.float32).reshape(-1).astype("<f2")
    return _planes(halves, 2)


def f24(values: Any) -> bytes:
    """Return the upper three bytes of floats, rounded, as three planes of bytes."""
    flat = np.asarray(values, np.float32).reshape(-1)
    bits = flat.view(np.uint32).astype(np.uint64)
    return _planes(np.where(np.isfinite(flat), (bits + 0x80) >> 8, bits >> 8).astype("<u4"), 3)


_ENCODERS = {"u24": u24, "f16": f16, "f24": f24}
