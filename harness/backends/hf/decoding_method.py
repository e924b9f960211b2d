"""What a decoding method is: one way to turn requests into samples with a loaded model.

Nothing here imports torch before something is decoded: plans ask for methods too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.backends.backend import Failure, Request
from harness.backends.steps.strategy_error import StrategyError
from harness.decoding.strategy import Strategy

if TYPE_CHECKING:
    from harness.backends.hf.cuda_graphs import StaticSteps
    from harness.backends.steps.recorder import Recorder
    from harness.decoding.detokenizer import Detokenizer
    from harness.models.load import LoadedModel
    from harness.store.records import Sample

Settings = Mapping[str, Any]
"""GenerationConfig's fields, all explicit (`config/effective.py`); or settings of a quantized KV cache."""

Prompts = Sequence[Sequence[int]]
"""The ids of each prompt of a batch."""

Steps = Iterator[None]
"""A loop that runs while it is iterated over, a step at a time."""


@dataclass(frozen=True)
class GenerateMode:
    """How stock `generate` reads prompts with a model, as the self-test found it to be right.

    Attributes:
        together: which prompts share a batch: `any` (padded on the left), those of `equal_length`, or `none`.
        use_cache: False computes every step from the whole text.
    """

    together: Literal["any", "equal_length", "none"] = "any"
    use_cache: bool = True

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return the indices of the prompts that share a batch, given the prompts' lengths."""
        if self.together == "any":
            return [list(range(len(lengths)))]
        if self.together == "none":
            return [[index] for index in range(len(lengths))]
        by_length: dict[int, list[int]] = {}
        for index, length in enumerate(lengths):
            by_length.setdefault(length, []).append(index)
        return list(by_length.values())


GENERATE_MODES = (
    GenerateMode("any"),
    GenerateMode("equal_length"),
    GenerateMode("none"),
    GenerateMode("none", use_cache=False),
)
"""From the fastest to the slowest; the last is right for every model that predicts from left to right."""


@dataclass(frozen=True)
class Work:
    """What decoding took: decoder rows computed, and tokens generated over all requests."""

    rows: int
    tokens: int


@dataclass(frozen=True)
class Runtime:
    """What a method decodes with.

    Attributes:
        static_steps: runs steps as CUDA graphs, where the method can; None to run them as they are.
        on_step: called after each step with the number of tokens it generated.
        on_work: called once a batch is done.
        mode: how stock `generate` reads prompts with the model.
        amateur: returns the loaded model that `decoding.amateur` names.
        recorder: sees the steps of a single request of a method that streams; None for one of its own.
        shared_prefix: returns whether rows can share the keys and values of their prompts.
    """

    loaded: LoadedModel
    detokenizer: Detokenizer
    static_steps: StaticSteps | None
    on_step: Callable[[int], None]
    on_work: Callable[[Work], None]
    mode: GenerateMode = GenerateMode()
    amateur: Callable[[str], LoadedModel] | None = None
    recorder: Recorder | None = None
    shared_prefix: Callable[[], bool] = lambda: False


class Method(ABC):
    """One way to decode. `cache` is the settings of a quantized KV cache; None for the model's default.

    Attributes:
        name: for people.
        streams: tokens come one by one, so that there is a time to first token.
        searches: sequences compete for each request; the self-test tries it apart.
        shares_batches: different strategies are decoded in one batch.
        moves_rows: it moves and copies the rows of a cache by itself. Where the tree, which does so too, is
            not right with a model, it reads every text by itself, without a cache.
    """

    name: str
    streams = True
    searches = False
    shares_batches = False
    moves_rows = False

    @abstractmethod
    def accepts(self, effective: Settings, cache: Settings | None, tree_is_right: bool) -> bool:
        """Return whether it decodes a strategy with this cache."""

    def rows_per_request(self, effective: Settings) -> int:
        """Return how many rows of the batch one request takes at most."""
        return 1

    @abstractmethod
    def batches_requests(self, effective: Settings, cache: Settings | None) -> bool:
        """Return whether several requests of a strategy are decoded at once."""

    @abstractmethod
    def decode(self, runtime: Runtime, requests: Sequence[Request]) -> list[Sample | Failure]:
        """Return one sample a request, in their order, or why there is none.

        Raises:
            StrategyError: a strategy failed by itself.
        """

    def timed_steps(
        self, loaded: LoadedModel, strategy: Strategy, prompts: Prompts, use_cache: bool
    ) -> Steps | None:
        """Return its loop for the latency pass, to the budget, nothing recorded; None: stock `generate`.

        Each step ends where the host has its tokens, or, of a method that does not stream, its work.
        """
        return None


def decode_each_strategy(
    method: Method,
    decode: Callable[..., list[Sample | Failure]],
    runtime: Runtime,
    requests: Sequence[Request],
    **more: Any,
) -> list[Sample | Failure]:
    """Decode the requests of one strategy together, as far as the method and the model's mode allow."""
    from harness.backends.hf.adaptive_batches import out_of_memory

    by_strategy: dict[int, list[int]] = {}
    for index, request in enumerate(requests):
        by_strategy.setdefault(id(request.strategy), []).append(index)
    answers: dict[int, Sample | Failure] = {}
    for indices in by_strategy.values():
        strategy = requests[indices[0]].strategy
        mode = runtime.mode
        if not method.batches_requests(strategy.effective, strategy.cache):
            mode = GenerateMode("none", mode.use_cache)
        for batch in mode.batches([len(requests[index].prompt.ids) for index in indices]):
            chosen = [indices[member] for member in batch]
            try:
                found = decode(
                    runtime.loaded,
                    [requests[index] for index in chosen],
                    runtime.detokenizer,
                    use_cache=mode.use_cache,
                    on_step=runtime.on_step,
                    **more,
                )
            except Exception as error:
                if out_of_memory(error):
                    raise
                raise StrategyError(strategy, error) from error
            answers |= zip(chosen, found, strict=True)
    in_order = [answers[index] for index in range(len(requests))]
    rows = tokens = 0
    for request, answer in zip(requests, in_order, strict=True):
        generated = 0 if isinstance(answer, Failure) else answer.output_tokens or 0
        tokens += generated
        rows += generated * method.rows_per_request(request.strategy.effective)
    runtime.on_work(Work(rows, tokens))
    return in_order
