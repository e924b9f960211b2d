"""A point that is ready to run: what `plan` hands to the artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.analysis.metrics.requested import RequestedMetrics
from harness.artifacts.drift_role import DriftRole
from harness.backends.backend import Request, Target, TokenIds
from harness.backends.drafting import Draft
from harness.config.point import Point
from harness.decoding.strategy import Strategy
from harness.prompts.prompt import Prompt


@dataclass(frozen=True)
class Job:
    """A point with everything that is known of it before its model is loaded.

    Attributes:
        point: the config, as requested.
        point_id: its address in the store.
        target: what it runs on.
        prompts: rendered, encoded, checked to fit.
        effective: every GenerationConfig field of its decoding.
        metrics: those that are requested of it.
        warnings: what its user should know, one line each.
        measures_noise: whether its group's noise floor is measured at this point.
        drift: its role in drift.
        chat_eos: ids that end a sample of its chat prompts beside the model's own EOS.
        drafts: what is tried to propose tokens of its samples.
        second_prompts: ids of what guidance contrasts each prompt with, by prompt id.
    """

    point: Point
    point_id: str
    target: Target
    prompts: tuple[Prompt, ...]
    effective: Mapping[str, Any]
    metrics: RequestedMetrics
    warnings: tuple[str, ...] = ()
    measures_noise: bool = False
    drift: DriftRole = field(default_factory=DriftRole)
    chat_eos: tuple[int, ...] = ()
    drafts: tuple[Draft, ...] = ()
    second_prompts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Samples to be generated."""
        return len(self.prompts) * self.point.generation.samples

    @property
    def tokens(self) -> int:
        """Tokens to be generated at most."""
        return self.samples * self.point.generation.max_new_tokens

    def strategy(self, token_ids: TokenIds) -> Strategy:
        """Return the strategy that its requests carry; `token_ids` are the backend's."""
        generation = self.point.generation
        return Strategy(
            effective=self.effective,
            max_new_tokens=generation.max_new_tokens,
            seed=generation.seed,
            stop_strings=generation.stop_strings,
            eos_token_ids=() if generation.ignore_eos else token_ids.eos,
            pad_token_id=token_ids.pad,
            top_k=self.point.record.top_k,
            cache=self.target.cache,
            chat_eos_token_ids=self.chat_eos,
            samples=generation.samples,
        )

    def request(self, prompt: Prompt, sample: int, strategy: Strategy) -> Request:
        """Return the request for one sample of a prompt."""
        strategy = strategy.for_chat if prompt.chat else strategy
        return Request(prompt, sample, strategy, self.second_prompts.get(prompt.id, ()))

    def requests(self, prompts: Sequence[Prompt], strategy: Strategy) -> Iterator[Request]:
        """Yield a request for each sample of these prompts."""
        for prompt in prompts:
            for sample in range(self.point.generation.samples):
                yield self.request(prompt, sample, strategy)

    def longest_request(self, strategy: Strategy) -> Request:
        """Return the request that needs the most memory."""
        requests = (self.request(prompt, 0, strategy) for prompt in self.prompts)
        return max(requests, key=lambda one: max(len(one.prompt.ids), len(one.second_prompt)))


def families(jobs: Sequence[Job]) -> list[list[int]]:
    """Return which jobs decode together: the same prompts and engine settings, batches that may be shared.

    Returns:
        Indices into `jobs`. A job that decodes by itself (its strategy, or engine.fuse=false) is a family of
        its own.
    """
    found: dict[Any, list[int]] = {}
    for index, job in enumerate(jobs):
        engine = job.point.engine
        prompts = tuple((prompt.id, prompt.ids, prompt.text, prompt.chat) for prompt in job.prompts)
        shared = engine.fuse and job.target.shares_batches(job.effective)
        found.setdefault((prompts, engine, job.point.cache) if shared else index, []).append(index)
    return list(found.values())


def prompts_per_batch(rows: int, samples_per_prompt: int) -> int:
    """Return how many prompts make a batch of at most `rows` samples; no prompt's samples are split."""
    return max(1, rows // samples_per_prompt)
