"""The stored steps of a point, as arrays that replay works on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.analysis.replay.rounding import raw_mass_error
from harness.errors import ConfigError
from harness.store.stored_point import StoredPoint
from harness.store.token_table import TokenBlock, read_blocks

_COLUMNS = (
    "token_id", "logprob", "rank", "entropy", "kept", "top_ids", "top_logprobs", "top_warped_logprobs",
)  # fmt: skip

_LATER = ("sum_p2", "logit_std")  # not in older points


@dataclass(frozen=True)
class StoredSteps:
    """S recorded steps of n samples, each with its k likeliest tokens; logprobs are raw, float64, nats.

    Attributes:
        prompt_ids, samples: (n,) which samples.
        offsets: (n + 1,) the step at which each sample starts, and S.
        chosen: (S,) the token that was chosen.
        chosen_logprob, rank: (S,) of that token.
        entropy: (S,) of the raw distribution.
        squares, deviation: (S,) the sum of its squared probabilities, the standard deviation of its logits;
            NaN where they were not recorded.
        top_ids, top_logprobs: (S, k) the likeliest tokens, likeliest first.
        top_kept: (S, k) bool, which of them the strategy of the point kept.
        vocabulary: number of tokens; infinite if it is unknown.
    """

    prompt_ids: Sequence[str]
    samples: Sequence[int]
    offsets: np.ndarray
    chosen: np.ndarray
    chosen_logprob: np.ndarray
    rank: np.ndarray
    entropy: np.ndarray
    squares: np.ndarray
    deviation: np.ndarray
    top_ids: np.ndarray
    top_logprobs: np.ndarray
    top_kept: np.ndarray
    vocabulary: float

    def __len__(self) -> int:
        """Return S."""
        return len(self.chosen)

    @property
    def depth(self) -> int:
        """k, the number of recorded alternatives."""
        return self.top_ids.shape[1]

    @cached_property
    def sample_index(self) -> np.ndarray:
        """(S,) the index of each step's sample among the n samples."""
        return np.repeat(np.arange(len(self.samples)), np.diff(self.offsets))

    @cached_property
    def position(self) -> np.ndarray:
        """(S,) the index of each step within its sample."""
        return np.arange(len(self)) - self.offsets[self.sample_index]

    @cached_property
    def chosen_column(self) -> np.ndarray:
        """(S,) the column of the chosen token in `ids`: that of an alternative, or k."""
        hits = self.top_ids == self.chosen[:, None]
        return np.where(hits.any(1), hits.argmax(1), self.depth)

    @cached_property
    def outside(self) -> np.ndarray:
        """(S,) bool, whether the chosen token is none of the alternatives."""
        return self.chosen_column == self.depth

    @cached_property
    def ids(self) -> np.ndarray:
        """(S, k + 1) the alternatives, then the chosen token if it is none of them, else -1."""
        return np.column_stack([self.top_ids, np.where(self.outside, self.chosen, -1)])

    @cached_property
    def logprobs(self) -> np.ndarray:
        """(S, k + 1) of `ids`; -inf where there is no token."""
        return np.column_stack([self.top_logprobs, np.where(self.outside, self.chosen_logprob, -np.inf)])

    @cached_property
    def was_kept(self) -> np.ndarray:
        """(S, k + 1) bool, which of `ids` the strategy of the point kept."""
        return np.column_stack([self.top_kept, self.outside])

    @cached_property
    def rest_count(self) -> np.ndarray:
        """(S,) number of tokens that are not in `ids`; infinite if the vocabulary is unknown."""
        return np.maximum(self.vocabulary - self.depth - self.outside, 0.0)

    @cached_property
    def rest_mass(self) -> tuple[np.ndarray, np.ndarray]:
        """(S,) bounds on the raw probability of all tokens that are not in `ids`."""
        mass = 1.0 - np.exp(self.logprobs).sum(1)
        error = raw_mass_error(self.vocabulary)
        empty = self.rest_count == 0
        low = np.where(empty, 0.0, np.maximum(mass - error, 0.0))
        return low, np.where(empty, 0.0, np.maximum(mass, 0.0) + error)

    @cached_property
    def rest_max_logprob(self) -> np.ndarray:
        """(S,) upper bound on the logprob of each token that is not in `ids`; -inf if there are none."""
        with np.errstate(divide="ignore"):
            return np.minimum(self.logprobs[:, self.depth - 1], np.log(self.rest_mass[1]))


def vocabulary_of(stored: StoredPoint) -> float:
    """Return the vocabulary size of a point's model; infinite if it was not recorded."""
    return (stored.environment().get("model") or {}).get("vocab_size") or math.inf


def read_steps(stored: StoredPoint, vocabulary: float) -> Iterator[StoredSteps]:
    """Yield the steps of a point, some complete samples at a time.

    Raises:
        ConfigError: the steps lack what replay needs.
    """
    for block in read_blocks(stored, "tokens", (*_COLUMNS, *_LATER)):
        _check_columns(block.columns, stored.point_id)
        yield _steps_of(block, vocabulary)


def _check_columns(columns: Mapping[str, np.ndarray], point_id: str) -> None:
    depth = columns["top_ids"].shape[1]
    problem = None
    if depth == 0:
        problem = "no alternatives were recorded"
    elif (columns["top_ids"] < 0).any():
        problem = "the number of recorded alternatives varies"
    if problem:
        cure = "run it again with record.top_k=20 to replay it"
        raise ConfigError.of(f"{point_id}: record.top_k={depth}", f"{problem}; {cure}")
    if unknown := [name for name in _COLUMNS if np.isnan(columns[name]).any()]:
        message = "unknown to the backend of this point; replay needs whole distributions"
        raise ConfigError.of(f"{point_id}: {', '.join(unknown)}", message)


def _steps_of(block: TokenBlock, vocabulary: float) -> StoredSteps:
    columns = block.columns
    if math.isfinite(vocabulary):
        vocabulary = max(vocabulary, int(columns["kept"].max()), int(columns["top_ids"].max()) + 1)
    return StoredSteps(
        prompt_ids=block.prompt_ids,
        samples=block.samples,
        offsets=np.asarray(block.offsets),
        chosen=columns["token_id"].astype(np.int64),
        chosen_logprob=columns["logprob"].astype(np.float64),
        rank=columns["rank"].astype(np.int64),
        entropy=columns["entropy"].astype(np.float64),
        squares=columns["sum_p2"].astype(np.float64),
        deviation=columns["logit_std"].astype(np.float64),
        top_ids=columns["top_ids"].astype(np.int64),
        top_logprobs=columns["top_logprobs"].astype(np.float64),
        top_kept=columns["top_warped_logprobs"] > -np.inf,
        vocabulary=vocabulary,
    )
