"""The reader of token tables (tokens, prompt_tokens, drift, drift_text): rows as whole samples, in NumPy.

Tables are read batch by batch, so that memory stays flat over many samples. With a `TokenVocabulary` the
texts of tokens become indices, so that no step holds a Python string.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.store.stored_point import StoredPoint

if TYPE_CHECKING:
    import pyarrow as pa

PROMPT = -1
"""The sample index of a prompt's own tokens, whose table has no column `sample`."""

UNKNOWN_ID = -1
"""The id of a token of which only the text is known."""

BATCH_ROWS = 16_384
_TEXTS = {"token": "token_id", "top_tokens": "top_ids"}  # columns of texts: the columns of their ids
_FILLERS = {"i": -1, "f": float("nan"), "O": None}  # by NumPy's kind of dtype


class TokenVocabulary:
    """Every distinct (token id, text) once; a token is represented by its index.

    Attributes:
        ids: the token ids; UNKNOWN_ID where only a text is known.
        texts: what each token adds to a text.
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.texts: list[str] = []
        self._indices: dict[tuple[int, str], int] = {}

    def index(self, token_id: int, text: str) -> int:
        """Return the index of a token, which is added if it is new."""
        index = self._indices.setdefault((token_id, text), len(self.ids))
        if index == len(self.ids):
            self.ids.append(token_id)
            self.texts.append(text)
        return index

    def indices(self, ids: np.ndarray, texts: pa.Array) -> np.ndarray:
        """Return the (N,) int32 indices of N tokens."""
        codes, distinct_texts = _dictionary(texts)
        keys = ids.astype(np.int64) << 32 | codes.astype(np.int64)
        distinct, inverse = np.unique(keys, return_inverse=True)
        found = [self.index(int(key >> 32), distinct_texts[int(key & 0xFFFFFFFF)]) for key in distinct]
        return np.asarray(found, np.int32)[inverse.reshape(-1)]


@dataclass(frozen=True)
class TokenColumns:
    """The T steps of one sample.

    Attributes:
        prompt_id: its prompt.
        sample: its index among the prompt's samples; PROMPT for the prompt's own tokens.
        columns: by name, (T,) or, of the k alternatives, (T, k).
    """

    prompt_id: str
    sample: int
    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        """Return T."""
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column."""
        return self.columns[name]


@dataclass(frozen=True)
class TokenBlock:
    """The steps of n samples, one sample after the other.

    Attributes:
        prompt_ids: (n,) the prompt of each sample.
        samples: (n,) the sample index of each.
        offsets: (n + 1,) the rows at which each sample starts, and the number of all rows.
        columns: by name, (rows,) or, of the k alternatives, (rows, k).
    """

    prompt_ids: Sequence[str]
    samples: Sequence[int]
    offsets: Sequence[int]
    columns: Mapping[str, np.ndarray]

    def __iter__(self) -> Iterator[TokenColumns]:
        """Yield the samples, whose columns are views."""
        for i, (prompt_id, sample) in enumerate(zip(self.prompt_ids, self.samples, strict=True)):
            rows = slice(self.offsets[i], self.offsets[i + 1])
            yield TokenColumns(prompt_id, sample, {name: c[rows] for name, c in self.columns.items()})


def read_blocks(
    stored: StoredPoint,
    table: str,
    columns: Sequence[str],
    *,
    prompts: Collection[str] | None = None,
    vocabulary: TokenVocabulary | None = None,
    most: int | None = None,
) -> Iterator[TokenBlock]:
    """Yield the samples of a token table in its order, some whole ones at a time; none if it does not exist.

    Numbers that are null, and columns that the table lacks, are NaN, texts None. All `top_*` columns have the
    same k, the largest of the block, filled up with NaN (`top_ids` and indices of tokens: -1).

    Args:
        stored: the point.
        table: the table's name.
        columns: the columns to read.
        prompts: only samples of these prompts; all when None.
        vocabulary: gets the tokens; the columns `token` and `top_tokens` are then int32 indices into it.
        most: stop once this many rows were found.
    """
    begun: list[TokenBlock] = []  # the last sample so far, which the next batch may continue
    for block in _batches(stored, table, columns, prompts, vocabulary, most):
        last = len(block.samples) - 1
        if begun and last == 0 and _key(block, 0) == _key(begun[0], 0):
            begun.append(block)
            continue
        complete = [*begun, _cut(block, 0, last)] if last else begun
        if complete:
            yield _joined(complete)
        begun = [_cut(block, last, last + 1)]
    if begun:
        yield _joined(begun)


def read_samples(
    stored: StoredPoint,
    table: str,
    columns: Sequence[str],
    *,
    prompts: Collection[str] | None = None,
    vocabulary: TokenVocabulary | None = None,
    most: int | None = None,
) -> Iterator[TokenColumns]:
    """Yield the samples of a token table in its order, as `read_blocks` reads them."""
    for block in read_blocks(stored, table, columns, prompts=prompts, vocabulary=vocabulary, most=most):
        yield from block


def collect_samples(samples: Iterable[TokenColumns]) -> dict[tuple[str, int], TokenColumns]:
    """Return samples by prompt id and sample index; their columns must include `position`.

    Rows of a sample that are scattered over its table are joined, and sorted by position.
    """
    runs: dict[tuple[str, int], list[TokenColumns]] = {}
    for run in samples:
        runs.setdefault((run.prompt_id, run.sample), []).append(run)
    found = {}
    for (prompt_id, sample), some in runs.items():
        joined = {name: _stacked([run[name] for run in some]) for name in some[0].columns}
        order = np.argsort(joined["position"], kind="stable")
        found[prompt_id, sample] = TokenColumns(prompt_id, sample, {n: c[order] for n, c in joined.items()})
    return found


def _batches(
    stored: StoredPoint,
    table: str,
    columns: Sequence[str],
    prompts: Collection[str] | None,
    vocabulary: TokenVocabulary | None,
    most: int | None,
) -> Iterator[TokenBlock]:
    """Yield the wanted rows of each batch that has any; its first and its last sample may be incomplete."""
    path = stored.path(f"{table}.parquet")
    if not path.is_file() or (prompts is not None and not prompts):
        return
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = None if prompts is None else pa.array(list(prompts), pa.string())
    ids = [_TEXTS[name] for name in columns if vocabulary is not None and name in _TEXTS]
    seen = 0
    with pq.ParquetFile(path) as file:
        known = set(file.schema_arrow.names)
        names = [n for n in dict.fromkeys(("prompt_id", "sample", *columns, *ids)) if n in known]
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=names):
            if wanted is not None:
                batch = batch.filter(pc.is_in(batch.column("prompt_id"), value_set=wanted))
            if batch.num_rows:
                yield _block(batch, columns, vocabulary)
            seen += batch.num_rows
            if most is not None and seen >= most:
                return


def _block(batch: pa.RecordBatch, names: Sequence[str], vocabulary: TokenVocabulary | None) -> TokenBlock:
    rows = batch.num_rows
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    codes, prompt_ids = _dictionary(columns["prompt_id"])
    samples = _numpy(columns["sample"]) if "sample" in columns else np.full(rows, PROMPT)
    changes = np.flatnonzero((codes[1:] != codes[:-1]) | (samples[1:] != samples[:-1])) + 1
    starts = [0, *changes.tolist()]
    lengths = {name: _lengths(columns.get(name), rows) for name in names if _is_list(name)}
    k = np.arange(max((int(counts.max()) for counts in lengths.values()), default=0))
    found = {}
    for name in names:
        entries = _entries(columns, name, rows)
        if vocabulary is not None and name in _TEXTS:
            values = vocabulary.indices(_ids_of(columns, name, len(entries)), entries)
        else:
            values = _numpy(entries)
        if _is_list(name):
            padded = np.full((rows, len(k)), _FILLERS[values.dtype.kind], values.dtype)
            padded[k < lengths[name][:, None]] = values
            values = padded
        found[name] = values
    firsts = [prompt_ids[code] for code in codes[starts].tolist()]
    return TokenBlock(firsts, samples[starts].tolist(), [*starts, rows], found)


def _is_list(name: str) -> bool:
    return name.startswith("top_")


def _lengths(lists: pa.Array | None, rows: int) -> np.ndarray:
    return np.zeros(rows, np.int32) if lists is None else _numpy(_filled(lists.value_lengths(), 0))


def _entries(columns: Mapping[str, pa.Array], name: str, rows: int) -> pa.Array:
    """Return a column, of lists all their entries one after the other; nulls where the table lacks it."""
    import pyarrow as pa

    if name in columns:
        return columns[name].flatten() if _is_list(name) else columns[name]
    kind = pa.string() if name in _TEXTS else pa.int64() if name == "top_ids" else pa.float32()
    return pa.nulls(0 if _is_list(name) else rows, kind)


def _ids_of(columns: Mapping[str, pa.Array], name: str, count: int) -> np.ndarray:
    """Return the (count,) ids of a column of texts."""
    ids = _entries(columns, _TEXTS[name], count)
    return _numpy(_filled(ids, UNKNOWN_ID)) if len(ids) == count else np.full(count, UNKNOWN_ID)


def _dictionary(texts: pa.Array) -> tuple[np.ndarray, list[str]]:
    """Return (N,) indices into the distinct texts, and those; a null counts as an empty text."""
    coded = _filled(texts, "").dictionary_encode()
    return _numpy(coded.indices), coded.dictionary.to_pylist()


def _filled(array: pa.Array, value: Any) -> pa.Array:
    """Return the array with a value in place of nulls. (`fill_null` would import pandas even without any.)"""
    return array.fill_null(value) if array.null_count else array


def _numpy(array: pa.Array) -> np.ndarray:
    """Return a column as NumPy; nulls are NaN, of texts None. (pyarrow's `to_numpy` would import pandas.)"""
    import pyarrow as pa

    if pa.types.is_string(array.type):
        return np.array(array.to_pylist(), object)
    if array.null_count:
        array = _filled(array if pa.types.is_floating(array.type) else array.cast(pa.float64()), np.nan)
    if pa.types.is_boolean(array.type):
        return np.from_dlpack(array.cast(pa.uint8())).astype(bool)
    return np.from_dlpack(array)


def _key(block: TokenBlock, i: int) -> tuple[str, int]:
    return block.prompt_ids[i], block.samples[i]


def _cut(block: TokenBlock, start: int, end: int) -> TokenBlock:
    """Return some samples of a block."""
    first, last = block.offsets[start], block.offsets[end]
    return TokenBlock(
        block.prompt_ids[start:end],
        block.samples[start:end],
        [offset - first for offset in block.offsets[start : end + 1]],
        {name: column[first:last] for name, column in block.columns.items()},
    )


def _joined(blocks: Sequence[TokenBlock]) -> TokenBlock:
    """Return the blocks as one; a sample that one block begins and the next continues is one sample."""
    if len(blocks) == 1:
        return blocks[0]
    keys: list[tuple[str, int]] = []
    offsets = [0]
    for block in blocks:
        for i, start in enumerate(block.offsets[:-1]):
            if not keys or keys[-1] != _key(block, i):
                keys.append(_key(block, i))
                offsets.append(offsets[-1])
            offsets[-1] += block.offsets[i + 1] - start
    columns = {name: _stacked([block.columns[name] for block in blocks]) for name in blocks[0].columns}
    return TokenBlock([prompt_id for prompt_id, _ in keys], [sample for _, sample in keys], offsets, columns)


def _stacked(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return columns one below the other, alternatives filled up to the largest k."""
    if len(columns) == 1:
        return columns[0]
    if columns[0].ndim == 1 or len({column.shape[1] for column in columns}) == 1:
        return np.concatenate(columns)
    shape = (sum(map(len, columns)), max(column.shape[1] for column in columns))
    stacked = np.full(shape, _FILLERS[columns[0].dtype.kind], np.result_type(*columns))
    end = 0
    for column in columns:
        start, end = end, end + len(column)
        stacked[start:end, : column.shape[1]] = column
    return stacked
