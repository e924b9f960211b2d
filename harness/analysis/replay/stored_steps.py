"""What the store knows of the steps of a point, as arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.replay.rounding import raw_mass_error
from harness.errors import ConfigError
from harness.store.stored_point import StoredPoint

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    "prompt_id", "sample", "position", "token_id", "logprob", "rank", "entropy", "kept", "top_ids",
    "top_logprobs", "top_warped_logprobs",
)  # fmt: skip


@dataclass(frozen=True)
class StoredSteps:
    """S recorded steps, k alternatives each; logprobs are raw, float64, nats.

    Attributes:
        prompt_id, sample, position: (S,) which step of which sample; a sample's steps are in order.
        chosen: (S,) the token that was chosen.
        chosen_logprob, rank: (S,) of it.
        entropy: (S,) of the raw distribution.
        kept: (S,) how many tokens the strategy that made the sample kept.
        top_ids, top_logprobs: (S, k) the likeliest tokens, likeliest first.
        top_kept: (S, k) bool, which of them that strategy kept.
        vocabulary: how many tokens there are; infinite if that is not known.
    """

    prompt_id: Sequence[str]
    sample: np.ndarray
    position: np.ndarray
    chosen: np.ndarray
    chosen_logprob: np.ndarray
    rank: np.ndarray
    entropy: np.ndarray
    kept: np.ndarray
    top_ids: np.ndarray
    top_logprobs: np.ndarray
    top_kept: np.ndarray
    vocabulary: float

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def depth(self) -> int:
        """k, how many alternatives were recorded."""
        return self.top_ids.shape[1]

    @cached_property
    def place(self) -> np.ndarray:
        """(S,) the chosen token's column in `ids`: among the alternatives, or k."""
        hits = self.top_ids == self.chosen[:, None]
        return np.where(hits.any(1), hits.argmax(1), self.depth)

    @cached_property
    def outside(self) -> np.ndarray:
        """(S,) bool, whether the chosen token is none of the alternatives."""
        return self.place == self.depth

    @cached_property
    def ids(self) -> np.ndarray:
        """(S, k + 1) the alternatives, then the chosen token where it is none of them, else -1."""
        return np.column_stack([self.top_ids, np.where(self.outside, self.chosen, -1)])

    @cached_property
    def logprobs(self) -> np.ndarray:
        """(S, k + 1) of `ids`; -inf where there is no token."""
        return np.column_stack([self.top_logprobs, np.where(self.outside, self.chosen_logprob, -np.inf)])

    @cached_property
    def was_kept(self) -> np.ndarray:
        """(S, k + 1) bool, which of `ids` the strategy that made the sample kept."""
        return np.column_stack([self.top_kept, self.outside])

    @cached_property
    def rest_tokens(self) -> np.ndarray:
        """(S,) how many tokens are none of `ids`; infinite if the vocabulary is not known."""
        return np.maximum(self.vocabulary - self.depth - self.outside, 0.0)

    @cached_property
    def rest_mass(self) -> tuple[np.ndarray, np.ndarray]:
        """(S,) bounds on the raw probability of the tokens that are none of `ids`."""
        mass = 1.0 - np.exp(self.logprobs).sum(1)
        error = raw_mass_error(self.vocabulary)
        none = self.rest_tokens == 0
        low = np.where(none, 0.0, np.maximum(mass - error, 0.0))
        return low, np.where(none, 0.0, np.maximum(mass, 0.0) + error)

    @cached_property
    def rest_most(self) -> np.ndarray:
        """(S,) no token that is none of `ids` has a greater logprob; -inf where there is no such token."""
        with np.errstate(divide="ignore"):
            return np.minimum(self.logprobs[:, self.depth - 1], np.log(self.rest_mass[1]))


def vocabulary_of(stored: StoredPoint) -> float:
    """How many tokens the model of a point knows; infinite if that was not noted."""
    facts = stored.environment() if stored.has("environment.json") else {}
    return (facts.get("model") or {}).get("vocab_size") or math.inf


def read_steps(stored: StoredPoint, vocabulary: float) -> Iterator[StoredSteps]:
    """The steps of a point, some samples at a time.

    Raises:
        ConfigError: nothing was recorded that could be replayed.
    """
    for batch in whole_samples(stored, COLUMNS):
        yield steps_of(batch, vocabulary, stored.point_id)


def whole_samples(
    stored: StoredPoint, columns: Sequence[str] | None = None, rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """tokens.parquet, about `rows` at a time; each part ends with the end of a sample."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(stored.path("tokens.parquet")) as file:
        begun: list[pa.RecordBatch] = []
        for batch in file.iter_batches(batch_size=rows, columns=columns):
            starts = np.flatnonzero(_array(batch.column("position")) == 0)
            if len(starts):
                end = int(starts[-1])
                if begun or end:
                    yield _joined([*begun, batch.slice(0, end)])
                begun, batch = [], batch.slice(end)
            begun.append(batch)
        if begun:
            yield _joined(begun)


def first_steps(stored: StoredPoint, vocabulary: float, rows: int) -> StoredSteps | None:
    """The first `rows` steps, or fewer where there are not as many, for a quick no; None without any."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(stored.path("tokens.parquet")) as file:
        batch = next(file.iter_batches(batch_size=rows, columns=list(COLUMNS)), None)
    return None if batch is None else steps_of(batch, vocabulary, stored.point_id)


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def steps_of(batch: pa.RecordBatch, vocabulary: float, point_id: str) -> StoredSteps:
    """The steps of some rows of tokens.parquet.

    Raises:
        ConfigError: no alternatives were recorded, or not as many at each step.
    """

    def numbers(name: str, dtype: type) -> np.ndarray:
        return _array(batch.column(name)).astype(dtype)

    count = batch.num_rows
    lengths = _array(batch.column("top_ids").value_lengths())
    depth = int(lengths[0]) if count else 0
    if count and (depth == 0 or not (lengths == depth).all()):
        problem = "no alternatives were recorded" if depth == 0 else "not as many at each step"
        cure = "run it again with record.top_k=20 to replay it"
        raise ConfigError.of(f"{point_id}: record.top_k={depth}", f"{problem}; {cure}")

    def table(name: str, dtype: type) -> np.ndarray:
        return _array(batch.column(name).flatten()).astype(dtype).reshape(count, depth)

    top_ids, kept = table("top_ids", np.int64), numbers("kept", np.int64)
    known = max([0, *kept.tolist(), *(top_ids.max(1) + 1).tolist()]) if count else 0
    return StoredSteps(
        prompt_id=batch.column("prompt_id").to_pylist(),
        sample=numbers("sample", np.int64),
        position=numbers("position", np.int64),
        chosen=numbers("token_id", np.int64),
        chosen_logprob=numbers("logprob", np.float64),
        rank=numbers("rank", np.int64),
        entropy=numbers("entropy", np.float64),
        kept=kept,
        top_ids=top_ids,
        top_logprobs=table("top_logprobs", np.float64),
        top_kept=table("top_warped_logprobs", np.float64) > -np.inf,
        vocabulary=max(vocabulary, known) if math.isfinite(vocabulary) else vocabulary,
    )


def _array(column: pa.Array) -> np.ndarray:
    """A column of numbers, none of them null; `to_numpy` would import pandas."""
    return np.from_dlpack(column)
