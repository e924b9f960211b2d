"""The reader of token tables (tokens, prompt_tokens, drift, drift_text): rows as whole samples, in NumPy.

Tables are read batch by batch, so that memory stays flat over many samples. With a `TokenVocabulary` the
texts of tokens become indices, so that no step holds a Python string.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.store.parquet_files import open_parquet
from harness.store.stored_point import StoredPoint

if TYPE_CHECKING:
    import pyarrow as pa

PROMPT = -1
"""The sample index of a prompt's own tokens, whose table has no column `sample`."""

UNKNOWN_ID = -1
"""The id of a token of which only the text is known."""

BATCH_ROWS = 16_384
_TEXTS = {"token": "token_id", "top_tokens": "top_ids"}  # columns of texts: the columns of their ids
_INTEGERS = ("sample", "token_id", "top_ids")
_FILLERS = {"i": -1, "f": float("nan"), "O": None}  # by NumPy's kind of dtype


class TokenVocabulary:
    """Every distinct token once, represented by its index: its id, or UNKNOWN_ID, and the text it adds."""

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
    """The T steps of one sample; columns are (T,) or, of the k alternatives, (T, k)."""

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

    `prompt_ids` and `samples` are (n,), `columns` (rows,) or (rows, k); `offsets` (n + 1,) are the rows at
    which each sample starts, and the number of all rows.
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
    import pyarrow as pa

    ids = [_TEXTS[name] for name in columns if vocabulary is not None and name in _TEXTS]
    begun: pa.RecordBatch | None = None  # the last sample so far, which the next batch may continue
    for batch in _batches(stored, table, ("prompt_id", "sample", *columns, *ids), prompts, most):
        some = batch if begun is None else pa.concat_batches([begun, batch])
        *starts, last = _starts(some)
        if starts:
            yield _block(some.slice(0, last), starts, columns, vocabulary)
        begun = some.slice(last)
    if begun is not None:
        yield _block(begun, [0], columns, vocabulary)


def read_samples(
    stored: StoredPoint,
    table: str,
    columns: Sequence[str],
    vocabulary: TokenVocabulary | None = None,
) -> Iterator[TokenColumns]:
    """Yield the samples of a token table in its order, as `read_blocks` reads them."""
    for block in read_blocks(stored, table, columns, vocabulary=vocabulary):
        yield from block


def collect_samples(blocks: Iterable[TokenBlock]) -> dict[tuple[str, int], TokenColumns]:
    """Return samples by prompt id and sample index; their columns must include `position`.

    Rows of a sample that are scattered over its table are joined, and sorted by position.
    """
    runs: dict[tuple[str, int], list[TokenColumns]] = {}
    for run in chain.from_iterable(blocks):
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
    most: int | None,
) -> Iterator[pa.RecordBatch]:
    """Yield the wanted rows of each batch that has any; its first and its last sample may be incomplete."""
    path = stored.path(f"{table}.parquet")
    if not path.is_file() or (prompts is not None and not prompts):
        return
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = None if prompts is None else pa.array(list(prompts), pa.string())
    names = list(dict.fromkeys(columns))
    seen = 0
    with open_parquet(path) as file:
        known = [name for name in names if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=known):
            if wanted is not None:
                batch = batch.filter(pc.is_in(batch.column("prompt_id"), value_set=wanted))
            rows = batch.num_rows
            if rows:
                found = [batch.column(name) if name in known else _nulls(name, rows) for name in names]
                yield pa.record_batch(found, names)
            seen += rows
            if most is not None and seen >= most:
                return


def _nulls(name: str, rows: int) -> pa.Array:
    """Return a column that the table lacks."""
    import pyarrow as pa

    kind = pa.string() if name in _TEXTS else pa.int64() if name in _INTEGERS else pa.float32()
    return pa.nulls(rows, pa.list_(kind) if _is_list(name) else kind)


def _starts(batch: pa.RecordBatch) -> list[int]:
    """Return the rows at which the samples start."""
    codes, _ = _dictionary(batch.column("prompt_id"))
    samples = numpy_of(_filled(batch.column("sample"), PROMPT))
    changes = (codes[1:] != codes[:-1]) | (samples[1:] != samples[:-1])
    return [0, *(np.flatnonzero(changes) + 1).tolist()]


def _block(
    batch: pa.RecordBatch, starts: list[int], names: Sequence[str], vocabulary: TokenVocabulary | None
) -> TokenBlock:
    rows = batch.num_rows
    lengths = {
        name: numpy_of(_filled(batch.column(name).value_lengths(), 0)) for name in names if _is_list(name)
    }
    k = np.arange(max((int(counts.max()) for counts in lengths.values()), default=0))
    found = {}
    for name in names:
        entries = _entries(batch, name)
        if vocabulary is not None and name in _TEXTS:
            ids = _entries(batch, _TEXTS[name])
            known = len(ids) == len(entries)  # a server may name alternatives by their texts only
            values = vocabulary.indices(
                numpy_of(_filled(ids, UNKNOWN_ID)) if known else np.full(len(entries), UNKNOWN_ID), entries
            )
        else:
            values = numpy_of(entries)
        if _is_list(name):
            padded = np.full((rows, len(k)), _FILLERS[values.dtype.kind], values.dtype)
            padded[k < lengths[name][:, None]] = values
            values = padded
        found[name] = values
    prompt_ids = batch.column("prompt_id")
    samples = numpy_of(_filled(batch.column("sample"), PROMPT))
    return TokenBlock(
        [prompt_ids[row].as_py() for row in starts], samples[starts].tolist(), [*starts, rows], found
    )


def _is_list(name: str) -> bool:
    return name.startswith("top_")


def _entries(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return a column, of lists all their entries one after the other."""
    return batch.column(name).flatten() if _is_list(name) else batch.column(name)


def _dictionary(texts: pa.Array) -> tuple[np.ndarray, list[str]]:
    """Return (N,) indices into the distinct texts, and those; a null counts as an empty text."""
    coded = _filled(texts, "").dictionary_encode()
    return numpy_of(coded.indices), coded.dictionary.to_pylist()


def _filled(array: pa.Array, value: Any) -> pa.Array:
    """Return the array with a value in place of nulls. (`fill_null` would import pandas even without any.)"""
    return array.fill_null(value) if array.null_count else array


def numpy_of(array: pa.Array) -> np.ndarray:
    """Return a column as NumPy; nulls are NaN, of texts None. (pyarrow's `to_numpy` would import pandas.)"""
    import pyarrow as pa

    if pa.types.is_string(array.type):
        return np.array(array.to_pylist(), object)
    if array.null_count:
        array = _filled(array if pa.types.is_floating(array.type) else array.cast(pa.float64()), np.nan)
    if pa.types.is_boolean(array.type):
        return np.from_dlpack(array.cast(pa.uint8())).astype(bool)
    return np.from_dlpack(array)


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
