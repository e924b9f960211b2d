"""Steps of a point as columns of numbers: read batch by batch, only those of wanted prompts.

Tokens are told by their place among all (id, text) pairs that were read, so that no step holds a string.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.store.stored_point import StoredPoint

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

NUMBERS = ("logprob", "warped_logprob", "rank", "entropy", "warped_entropy", "kept", "kept_mass")
TOPS = ("top_ids", "top_tokens", "top_logprobs", "top_warped_logprobs")
BATCH = 16_384
"""Steps that are in memory as strings at a time."""

PROMPT = -1
"""The sample number under which a prompt's own tokens are known."""

Sampled = tuple[str, int]
"""A prompt id and a sample."""


class Pairs:
    """Every distinct (token id, text) once; a pair is told by its place."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.texts: list[str] = []
        self._places: dict[tuple[int, str], int] = {}

    def place(self, token_id: int, text: str) -> int:
        """The place of a pair, which is a new one where it was not seen before."""
        place = self._places.setdefault((token_id, text), len(self.ids))
        if place == len(self.ids):
            self.ids.append(token_id)
            self.texts.append(text)
        return place

    def places(self, ids: np.ndarray, texts: pa.Array) -> np.ndarray:
        """(N,) places of N pairs."""
        import numpy as np

        coded = texts.dictionary_encode()
        keys = ids.astype(np.int64) << 32 | coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        distinct, inverse = np.unique(keys, return_inverse=True)
        words = coded.dictionary.to_pylist()
        found = [self.place(int(key >> 32), words[int(key & 0xFFFFFFFF)]) for key in distinct]
        return np.asarray(found, np.int32)[inverse.reshape(-1)]


@dataclass(frozen=True)
class Steps:
    """The T steps of one sample, in order.

    Attributes:
        token: (T,) places among the pairs.
        numbers: by name of NUMBERS, (T,); NaN and 0 where they were not recorded.
        tops: (T, k) places of the alternatives; -1 where there are fewer.
        top_logprobs, top_warped_logprobs: (T, k) nats.
    """

    token: np.ndarray
    numbers: Mapping[str, np.ndarray]
    tops: np.ndarray
    top_logprobs: np.ndarray
    top_warped_logprobs: np.ndarray


def read_steps(
    stored: StoredPoint, wanted: Collection[str], pairs: Pairs, most: int | None = None
) -> dict[Sampled, Steps]:
    """The steps of every sample of these prompts, and of the prompts themselves under sample PROMPT.

    Args:
        stored: the point.
        wanted: prompt ids.
        pairs: gets the tokens that were not seen before.
        most: steps there are of these prompts; reading stops once they were found.
    """
    found = _collected(_read(stored, "tokens", wanted, pairs, most))
    for (prompt_id, _), steps in _collected(_read(stored, "prompt_tokens", wanted, pairs, None)).items():
        found[prompt_id, PROMPT] = steps
    return found


def _read(
    stored: StoredPoint, name: str, wanted: Collection[str], pairs: Pairs, most: int | None
) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Prompt ids and columns of some steps at a time."""
    if not wanted or not stored.has(f"{name}.parquet"):
        return
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    chosen = pa.array(list(wanted), pa.string())
    seen = 0
    with pq.ParquetFile(stored.path(f"{name}.parquet")) as file:
        if "token_id" not in file.schema_arrow.names:
            return
        for batch in file.iter_batches(batch_size=BATCH):
            some = batch.filter(pc.is_in(batch.column("prompt_id"), value_set=chosen))
            if some.num_rows:
                yield some.column("prompt_id").to_pylist(), _numbers(some, pairs)
            seen += some.num_rows
            if most is not None and seen >= most:
                return


def _numbers(batch: pa.RecordBatch, pairs: Pairs) -> dict[str, Any]:
    """A batch as NumPy columns; alternatives as (N, k)."""
    import numpy as np

    count, names = batch.num_rows, batch.schema.names

    def column(name: str, otherwise: float) -> np.ndarray:
        if name not in names:
            return np.full(count, otherwise)
        return batch.column(name).to_numpy(zero_copy_only=False)

    columns: dict[str, Any] = {
        name: column(name, 0 if name in ("rank", "kept") else np.nan) for name in NUMBERS
    }
    columns["sample"] = column("sample", PROMPT).astype(np.int64)
    columns["position"] = column("position", 0)
    columns["token"] = pairs.places(column("token_id", 0), batch.column("token"))
    lists = {name: batch.column(name) for name in TOPS if name in names}
    if len(lists) < len(TOPS):
        return columns | {
            "tops": np.empty((count, 0), np.int32),
            **{name: np.empty((count, 0), np.float32) for name in TOPS[2:]},
        }
    lengths = np.asarray(lists["top_ids"].value_lengths().fill_null(0))
    width = int(lengths.max(initial=0))
    there = np.arange(width) < lengths[:, None]

    def padded(values: np.ndarray, filler: float, kind: Any) -> np.ndarray:
        table = np.full((count, width), filler, kind)
        table[there] = values
        return table

    flat = {name: values.flatten() for name, values in lists.items()}
    places = pairs.places(flat["top_ids"].to_numpy(zero_copy_only=False), flat["top_tokens"])
    columns["tops"] = padded(places, -1, np.int32)
    for name in TOPS[2:]:
        columns[name] = padded(flat[name].to_numpy(zero_copy_only=False), np.nan, np.float32)
    return columns


def _collected(read: Iterator[tuple[list[str], dict[str, Any]]]) -> dict[Sampled, Steps]:
    """The runs of each sample joined, in the order of position."""
    import numpy as np

    runs: dict[Sampled, list[dict[str, Any]]] = {}
    for prompts, columns in read:
        samples = columns["sample"]
        changes = [
            i for i in range(1, len(prompts)) if prompts[i] != prompts[i - 1] or samples[i] != samples[i - 1]
        ]
        for start, end in zip([0, *changes], [*changes, len(prompts)], strict=True):
            run = {name: values[start:end] for name, values in columns.items()}
            runs.setdefault((prompts[start], int(samples[start])), []).append(run)
    found = {}
    for key, parts in runs.items():
        width = max(part["tops"].shape[1] for part in parts)
        joined = {name: np.concatenate([_widened(part[name], width) for part in parts]) for name in parts[0]}
        order = np.argsort(joined["position"], kind="stable")
        found[key] = Steps(
            token=joined["token"][order],
            numbers={name: joined[name][order] for name in NUMBERS},
            tops=joined["tops"][order],
            top_logprobs=joined["top_logprobs"][order],
            top_warped_logprobs=joined["top_warped_logprobs"][order],
        )
    return found


def _widened(values: np.ndarray, width: int) -> np.ndarray:
    """Alternatives filled up to `width` columns; other columns as they are."""
    import numpy as np

    if values.ndim == 1 or values.shape[1] == width:
        return values
    filler = -1 if values.dtype.kind == "i" else np.nan
    more = np.full((len(values), width - values.shape[1]), filler, values.dtype)
    return np.concatenate([values, more], axis=1)
