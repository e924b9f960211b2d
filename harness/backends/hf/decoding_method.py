"""What a decoding method is: one way to turn requests into samples with a loaded model.

Nothing here imports torch before something is decoded: plans ask for methods too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from harness.backends.backend import Request
from harness.decoding.strategy import Strategy

if TYPE_CHECKING:
    from harness.decoding.detokenizer import Detokenizer
    from harness.models.load import LoadedModel
    from harness.store.records import Sample

Settings = Mapping[str, Any]
"""GenerationConfig's fields, all explicit (`config/effective.py`); or settings of a quantized KV cache."""


class StrategyError(Exception):
    """A strategy failed by itself, as by its processors; other strategies are not affected."""

    def __init__(self, strategy: Strategy, cause: Exception) -> None:
        super().__init__(str(cause))
        self.strategy = strategy
        self.cause = cause


@dataclass(frozen=True)
class Work:
    """What decoding took: decoder rows computed, and tokens generated over all requests."""

    rows: int
    tokens: int


@dataclass(frozen=True)
class Runtime:
    """What a method decodes with.

    Attributes:
        capture: run steps as CUDA graphs, where the method can.
        on_step: called after each step with the number of tokens it generated.
        on_work: called once a batch is done.
    """

    loaded: LoadedModel
    detokenizer: Detokenizer
    capture: bool
    on_step: Callable[[int], None]
    on_work: Callable[[Work], None]


class Method(ABC):
    """One way to decode. `cache` is the settings of a quantized KV cache; None for the model's default.

    Attributes:
        name: for people.
        streams: tokens come one by one, so that there is a time to first token.
        shares_batches: different strategies are decoded in one batch.
    """

    name: str
    streams = True
    shares_batches = False

    @abstractmethod
    def accepts(self, effective: Settings, cache: Settings | None, tree_handles_model: bool) -> bool:
        """Return whether it decodes a strategy with this cache."""

    def rows_per_request(self, effective: Settings) -> int:
        """Return how many rows of the batch one request takes at most."""
        return 1

    @abstractmethod
    def batches_requests(self, effective: Settings, cache: Settings | None) -> bool:
        """Return whether several requests of a strategy are decoded at once."""

    @abstractmethod
    def decode(self, runtime: Runtime, requests: Sequence[Request]) -> list[Sample]:
        """Return one sample a request, in their order.

        Raises:
            StrategyError: a strategy failed by itself.
        """


def decode_each_strategy(
    method: Method, decode: Callable[..., list[Sample]], runtime: Runtime, requests: Sequence[Request]
) -> list[Sample]:
    """Decode neighbouring requests of one strategy together, or one by one where the method wants that."""
    from harness.backends.hf.adaptive_batches import out_of_memory

    samples: list[Sample] = []
    for _, group in groupby(requests, key=lambda request: id(request.strategy)):
        same = list(group)
        strategy = same[0].strategy
        together = method.batches_requests(strategy.effective, strategy.cache)
        for batch in [same] if together else [[request] for request in same]:
            try:
                samples += decode(runtime.loaded, batch, runtime.detokenizer, on_step=runtime.on_step)
            except Exception as error:
                if out_of_memory(error):
                    raise
                raise StrategyError(strategy, error) from error
    tokens = sum(sample.output_tokens or 0 for sample in samples)
    runtime.on_work(Work(tokens, tokens))
    return samples
