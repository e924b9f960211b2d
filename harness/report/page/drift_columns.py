"""The drift of a prompt's texts as one piece of a page: what both models made of every token.

A piece begins with a line of JSON that names its blocks, and holds of each its columns one after the other,
laid out as in token_data.py. A block ["reference", point, sample, steps, alternatives] has the reference's
own columns, once; ["drift", point, block, steps, alternatives] those of a quantized point along the text of
the block whose place is named. Divergences and differences span many powers of ten, which half-precision
floats do not: they take the upper three bytes of a float, which keep 1 part in 60,000.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.report.page.shell import packed, safe_json
from harness.report.page.token_columns import Vocabulary, half, whole
from harness.store.step_columns import BATCH, Pairs, Sampled, Steps
from harness.store.stored_point import StoredPoint

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

LEAST_STEP_BYTES = 4
"""No step takes less of a page, even where precisions agree."""

_NUMBERS = (
    "logprob", "drift_logprob", "rank", "drift_rank", "same_top", "kl", "kl_error", "total_variation",
    "entropy", "drift_entropy",
)  # fmt: skip


@dataclass(frozen=True)
class Drifted:
    """The T steps of one text of a reference under a quantized point, in order.

    Attributes:
        token: (T,) places among the pairs.
        numbers: (T,) by the names of drift.parquet.
        tops: (T, k) places of the quantized point's alternatives; -1 where there are fewer.
        top_logprobs: (T, k) nats.
    """

    token: np.ndarray
    numbers: Mapping[str, np.ndarray]
    tops: np.ndarray
    top_logprobs: np.ndarray


def read_drift(stored: StoredPoint, wanted: Collection[str], pairs: Pairs) -> dict[Sampled, Drifted]:
    """The steps of drift.parquet of these prompts, by prompt and sample.

    Args:
        stored: a quantized point.
        wanted: prompt ids.
        pairs: gets the tokens that were not seen before.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    chosen = pa.array(list(wanted), pa.string())
    parts: dict[Sampled, list[dict[str, np.ndarray]]] = {}
    with pq.ParquetFile(stored.path("drift.parquet")) as file:
        for batch in file.iter_batches(batch_size=BATCH):
            some = batch.filter(pc.is_in(batch.column("prompt_id"), value_set=chosen))
            if not some.num_rows:
                continue
            columns = _columns_of(some, pairs)
            names, samples = some.column("prompt_id").to_pylist(), columns["sample"].tolist()
            starts = [
                i
                for i in range(len(names))
                if not i or (names[i], samples[i]) != (names[i - 1], samples[i - 1])
            ]
            for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
                run = {name: values[start:end] for name, values in columns.items()}
                parts.setdefault((names[start], samples[start]), []).append(run)
    return {key: _joined(runs) for key, runs in parts.items()}


def _columns_of(batch: pa.RecordBatch, pairs: Pairs) -> dict[str, np.ndarray]:
    """A batch as NumPy columns; alternatives as (N, k)."""
    import numpy as np

    def column(name: str) -> np.ndarray:
        return batch.column(name).to_numpy(zero_copy_only=False)

    columns = {name: column(name) for name in (*_NUMBERS, "sample", "position")}
    columns["token"] = pairs.places(column("token_id"), batch.column("token"))
    lengths = np.asarray(batch.column("top_ids").value_lengths().fill_null(0))
    there = np.arange(int(lengths.max(initial=0))) < lengths[:, None]
    ids = batch.column("top_ids").flatten().to_numpy(zero_copy_only=False)
    tops, logprobs = np.full(there.shape, -1, np.int32), np.full(there.shape, np.nan, np.float32)
    tops[there] = pairs.places(ids, batch.column("top_tokens").flatten())
    logprobs[there] = batch.column("top_logprobs").flatten().to_numpy(zero_copy_only=False)
    return columns | {"tops": tops, "top_logprobs": logprobs}


def _joined(runs: Sequence[Mapping[str, np.ndarray]]) -> Drifted:
    import numpy as np

    width = max(run["tops"].shape[1] for run in runs)
    order = np.argsort(np.concatenate([run["position"] for run in runs]), kind="stable")

    def joined(name: str) -> np.ndarray:
        return np.concatenate([run[name] for run in runs])[order]

    def widened(name: str, filler: float) -> np.ndarray:
        more = [((0, 0), (0, width - run[name].shape[1])) for run in runs]
        filled = [np.pad(r[name], m, constant_values=filler) for r, m in zip(runs, more, strict=True)]
        return np.concatenate(filled)[order]

    return Drifted(
        joined("token"),
        {name: joined(name) for name in _NUMBERS},
        widened("tops", -1),
        widened("top_logprobs", np.nan),
    )


Along = tuple[int, int, int, Drifted, "Steps | None"]
"""Places of the reference and of the quantized point, a sample, its drift, and the reference's own steps."""


def places_in(texts: Sequence[Along]) -> np.ndarray:
    """Distinct places of all tokens and alternatives that these texts name."""
    import numpy as np

    named = [part.reshape(-1) for *_, drifted, _ in texts for part in (drifted.token, drifted.tops)]
    named += [own.tops.reshape(-1) for *_, own in texts if own is not None]
    distinct = np.unique(np.concatenate(named)) if named else np.empty(0, np.int64)
    return distinct[distinct >= 0]


def drift_piece(texts: Sequence[Along], vocabulary: Vocabulary) -> str:
    """These texts packed; their tokens must be in the vocabulary."""
    blocks: list[list[Any]] = []
    columns: list[bytes] = []
    places: dict[tuple[int, int], int] = {}
    for reference, point, sample, drifted, own in texts:
        count = len(drifted.token)
        if (reference, sample) not in places:
            places[reference, sample] = len(blocks)
            # The reference's own table has its alternatives, if it recorded as many steps.
            k = own.tops.shape[1] if own is not None and len(own.token) == count else 0
            blocks.append(["reference", reference, sample, count, k])
            columns += _reference(drifted, own if k else None, vocabulary)
        blocks.append(["drift", point, places[reference, sample], count, int(drifted.tops.shape[1])])
        columns += _drift(drifted, vocabulary)
    return packed(b"".join([safe_json(blocks).encode("ascii"), b"\n", *columns]))


def _reference(drifted: Drifted, own: Steps | None, vocabulary: Vocabulary) -> list[bytes]:
    """In the order in which the page's `precision_steps.js` takes them off, as with those below."""
    numbers = drifted.numbers
    told = [
        whole(vocabulary.of(drifted.token)),
        half(numbers["logprob"]),
        whole(numbers["rank"]),
        half(numbers["entropy"]),
    ]
    return told if own is None else [*told, whole(vocabulary.of(own.tops)), half(own.top_logprobs)]


def _drift(drifted: Drifted, vocabulary: Vocabulary) -> list[bytes]:
    import numpy as np

    numbers = drifted.numbers
    with np.errstate(invalid="ignore"):
        change = numbers["drift_logprob"].astype(np.float64) - numbers["logprob"]
    return [
        wide(numbers["kl"]),
        wide(numbers["kl_error"]),
        wide(change),
        half(numbers["total_variation"]),
        whole(numbers["drift_rank"]),
        half(numbers["drift_entropy"]),
        whole(numbers["same_top"]),
        whole(vocabulary.of(drifted.tops)),
        half(drifted.top_logprobs),
    ]


def wide(values: Any) -> bytes:
    """The upper three bytes of floats, rounded, as three planes of bytes."""
    import numpy as np

    flat = np.asarray(values, np.float32).reshape(-1)
    bits = flat.view(np.uint32).astype(np.uint64)
    upper = np.where(np.isfinite(flat), (bits + 0x80) >> 8, bits >> 8).astype("<u4")
    return upper.view(np.uint8).reshape(-1, 4)[:, :3].T.tobytes()
