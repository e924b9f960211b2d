"""A model that is split over several processes, each with a device: `model.devices=tensor_parallel`.

Rank 0 is this process: the backend as others see it. What of it reads the model is called on all ranks
(`rank_group.py`); the store, the clock and what is printed are rank 0's alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeVar

from torch import Tensor

from harness.analysis.speculative_blocks import SpeculativeText
from harness.backends.backend import Failure, OnToken, ReadAgain, Request, TokenStep
from harness.backends.costing import CostRun, CostShape
from harness.backends.drafting import Draft, DraftedText, Speculator
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.rank_group import RankGroup
from harness.backends.hf.rank_process import digest_of, speculated_digest
from harness.backends.hf.reference_comparison import ReferenceComparison
from harness.backends.hf.teacher_forcing import TeacherForcing
from harness.config.point import Engine, Model, Quantization, Timing
from harness.models.load import fetch
from harness.progress import Progress, StagesInPercent
from harness.prompts.passages import Passage
from harness.prompts.prompt import Prompt
from harness.store.records import PromptScores, Repetition, Sample

Slices = Iterator[tuple[int, Tensor]]
Part = TypeVar("Part")


class SharedBackend(HfBackend):
    """Rank 0 of a split model."""

    _group: RankGroup
    _forced: _SharedForcing

    @classmethod
    def open_shared(
        cls, model: Model, quantization: Quantization, progress: Progress, count: int, cuda: bool
    ) -> SharedBackend:
        """Start the other ranks, and load the model on all.

        Raises:
            RankLostError: a rank could not be started, or has ended.
            ConfigError, HarnessError: as `models.load.load`.
        """
        fetch(model, StagesInPercent(progress))  # once, not by each rank
        progress.stage(f"starting {count} ranks", 1, "")
        group = RankGroup(count, cuda)
        try:
            return group.call(
                "open", (model, quantization), lambda: cls._own(model, quantization, progress, group)
            )
        except BaseException:
            group.close()
            raise

    @classmethod
    def _own(
        cls, model: Model, quantization: Quantization, progress: Progress, group: RankGroup
    ) -> SharedBackend:
        """Load the share of rank 0, in step with `rank_process.RankShare.open`."""
        found = cls.open(model, quantization, progress, group.rank)
        found._group, found._forced = group, _SharedForcing(found.loaded, group)
        return found

    def configure(self, engine: Engine) -> None:
        """Set threads and batch rows on all ranks, and start a new `usage`."""
        own = super().configure
        self._group.call("configure", (engine,), lambda: own(engine))

    def batch_size(self, requests: Sequence[Request]) -> int:
        """Return how many requests like these are decoded at once, which the ranks agree on."""
        own = super().batch_size
        return self._group.call("batch_size", (requests,), lambda: own(requests), lambda size: size)

    def generate(self, requests: Sequence[Request], progress: Progress) -> Iterator[Sample | Failure]:
        """Decode requests; yield once all are done."""
        own = super().generate
        answers = self._group.call("generate", (requests,), lambda: list(own(requests, progress)), digest_of)
        yield from answers

    def stream(self, request: Request, on_token: OnToken) -> Sample | Failure:
        """Decode one request by itself; `on_token` is called with each token as it comes."""
        own = super().stream

        def passed_on(step: TokenStep) -> None:
            try:
                on_token(step)
            except BaseException:
                self._group.abandon()  # the reader has gone, and the others would wait
                raise

        return self._group.call(
            "generate", ([request],), lambda: own(request, passed_on), lambda answer: digest_of([answer])
        )

    def score(self, prompts: Sequence[Prompt]) -> Iterator[PromptScores]:
        """Return how likely each prompt's own tokens are, and their texts."""
        own = super().score
        for prompt in prompts:
            yield from self._group.call("score", ([prompt],), lambda one=prompt: list(own([one])))  # type: ignore[misc]

    def read_again(self, request: Request, generated: Sequence[int]) -> ReadAgain:
        """Return what is recorded of a request's output when it is read in one pass."""
        own = super().read_again
        return self._group.call("read_again", (request, generated), lambda: own(request, generated))

    def time(self, requests: Sequence[Request], timing: Timing, progress: Progress) -> list[Repetition]:
        """Time requests of one strategy, as rank 0 sees it."""
        own = super().time
        return self._group.call("time", (requests, timing), lambda: own(requests, timing, progress))

    def run_model(self, shape: CostShape, new_tokens: int, count: int = 1) -> list[CostRun]:
        """Run a batch for its cost, as rank 0 sees it."""
        own = super().run_model
        return self._group.call(
            "run_model", (shape, new_tokens, count), lambda: own(shape, new_tokens, count)
        )

    def close(self) -> None:
        """End the ranks, and free this one's share."""
        self._group.close()
        super().close()

    @cached_property
    def distributions(self) -> ReferenceComparison:
        """Full distributions along given texts."""
        return ReferenceComparison(self.loaded, self._detokenizer, self._forced)

    @cached_property
    def speculator(self) -> Speculator:
        """Speculative decoding with the model."""
        return _SharedSpeculator(super().speculator, self._group)


class _SharedForcing(TeacherForcing):
    """Teacher forcing of which every rank reads its share."""

    def __init__(self, loaded: object, group: RankGroup) -> None:
        super().__init__(loaded)  # type: ignore[arg-type]
        self._group = group

    def hidden_states(self, passages: Sequence[Passage]) -> Iterator[tuple[Passage, Tensor]]:
        """Yield each passage with the head's inputs that predict its scored tokens."""
        own = super().hidden_states
        yield from self._group.iterate("hidden_states", (passages,), lambda: own(passages))

    def logits(self, passages: Sequence[Passage]) -> Iterator[tuple[Passage, Slices]]:
        """Yield each passage with slices of its scored tokens' logits; all must be read."""
        own = super().logits
        yield from self._group.iterate("logits", (passages,), lambda: own(passages))


class _SharedSpeculator:
    """The speculator of rank 0, called on all."""

    def __init__(self, own: Speculator, group: RankGroup) -> None:
        self._own, self._group = own, group

    @property
    def obstacle(self) -> str | None:
        """Why the loop cannot be run with the model; None where it can."""
        return self._own.obstacle

    def along(
        self, texts: Sequence[tuple[Request, Sequence[int]]], drafts: Sequence[Draft]
    ) -> list[Mapping[str, DraftedText]]:
        """Return what drafts propose along texts of one strategy."""
        return self._group.call("along", (texts, drafts), lambda: self._own.along(texts, drafts))

    def run(self, request: Request, draft: Draft | None, block: int) -> SpeculativeText:
        """Generate one text, of which a draft proposes up to `block` tokens a forward pass."""
        own = self._own.run
        return self._group.call(
            "run", (request, draft, block), lambda: own(request, draft, block), speculated_digest
        )
