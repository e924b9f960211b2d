"""The names of the ways to choose one of several samples, as in `compare.select`, and what each takes."""

from __future__ import annotations

from typing import Literal, get_args

SelectorName = Literal["best_of", "best_of_sum", "majority", "mbr", "self_certainty", "first_valid"]

SELECTORS: tuple[str, ...] = get_args(SelectorName)

DESCRIPTIONS: dict[SelectorName, str] = {
    "best_of": "the sample with the highest mean logprob",
    "best_of_sum": "the sample with the highest sum of logprobs, which prefers short ones",
    "majority": "the first sample with the most frequent answer (compare.answer_pattern); of equally "
    "frequent ones the answer that is likelier",
    "mbr": "the sample with the highest mean chrF with all samples: minimum Bayes risk",
    "self_certainty": "the sample whose next-token distributions are farthest from uniform on average",
    "first_valid": "the first sample that meets its grammar; without one, with a compare.answer_pattern",
}
