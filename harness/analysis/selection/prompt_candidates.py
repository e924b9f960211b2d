"""The samples of one prompt that a selector chooses among, with what it may know of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.analysis.selection.chrf_pairs import chrf_matrix


@dataclass(frozen=True)
class Candidates:
    """The n samples of a prompt, in the order of their numbers; NaN is what is not known.

    Attributes:
        rows: (n,) their rows in generations.parquet.
        outputs: their texts.
        answers: their extracted answers, normalised.
        mean_logprob, sum_logprob: (n,) by the model, over their tokens.
        self_certainty: (n,) mean over their tokens of KL(uniform, p), less the log of the vocabulary's size.
        valid: (n,) 1 where a sample is what it had to be, else 0.
    """

    rows: np.ndarray
    outputs: tuple[str, ...]
    answers: tuple[str, ...]
    mean_logprob: np.ndarray
    sum_logprob: np.ndarray
    self_certainty: np.ndarray
    valid: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def answer_codes(self) -> np.ndarray:
        """(n,) the same number for the same answer."""
        codes = {answer: i for i, answer in enumerate(dict.fromkeys(self.answers))}
        return np.array([codes[answer] for answer in self.answers], np.int64)

    @cached_property
    def similarity(self) -> np.ndarray:
        """(n, n) chrF of sample i with sample j as its reference."""
        return chrf_matrix(self.outputs)
