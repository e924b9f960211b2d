"""The decoding methods of this backend, and which of them a strategy takes.

A strategy with a decoding loop of its own is one more class here (or in a file of its own) and one line in
METHODS. Nothing here imports torch before something is decoded: plans ask for methods too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from harness.backends.backend import Request
from harness.config.effective import effective_decoding
from harness.config.point import Decoding
from harness.decoding.strategy import Strategy

if TYPE_CHECKING:
    from harness.decoding.detokenizer import Detokenizer
    from harness.models.load import LoadedModel
    from harness.store.records import Sample


class StrategyError(Exception):
    """A strategy failed by itself, as by its processors; other strategies are not affected."""

    def __init__(self, strategy: Strategy, cause: Exception) -> None:
        super().__init__(str(cause))
        self.strategy = strategy
        self.cause = cause


@dataclass(frozen=True)
class Work:
    """What decoding took.

    Attributes:
        rows: decoder rows computed.
        tokens: generated, over all requests.
    """

    rows: int
    tokens: int


@dataclass(frozen=True)
class Runtime:
    """What a method decodes with.

    Attributes:
        loaded: the model.
        detokenizer: of its tokenizer.
        capture: run steps as CUDA graphs, where the method can.
        on_step: called after each step with the number of tokens it generated.
        on_work: called once a batch is done.
    """

    loaded: LoadedModel
    detokenizer: Detokenizer
    capture: bool
    on_step: Callable[[int], None]
    on_work: Callable[[Work], None]


class Method(Protocol):
    """One way to decode.

    Attributes:
        name: for people.
        streams: tokens come one by one, so that there is a time to first token.
        shares_batches: different strategies are decoded in one batch.
    """

    name: str
    streams: bool
    shares_batches: bool

    def accepts(
        self, effective: Mapping[str, Any], cache: Mapping[str, Any] | None, tree_handles_model: bool
    ) -> bool:
        """Return whether it decodes a strategy with this cache (None: the model's own)."""

    def rows_per_request(self, effective: Mapping[str, Any]) -> int:
        """Return how many rows of the batch one request takes at most."""

    def batches_requests(self, effective: Mapping[str, Any], cache: Mapping[str, Any] | None) -> bool:
        """Return whether several requests of a strategy are decoded at once."""

    def decode(self, runtime: Runtime, requests: Sequence[Request]) -> list[Sample]:
        """Return one sample a request, in their order.

        Raises:
            StrategyError: a strategy failed by itself.
        """


class Tree:
    """One token a step from one row: strategies share a batch, and rows where they agree (`tree.py`)."""

    name = "tree"
    streams = True
    shares_batches = True

    def accepts(
        self, effective: Mapping[str, Any], cache: Mapping[str, Any] | None, tree_handles_model: bool
    ) -> bool:
        """Return whether one row decodes it, in the model's own cache."""
        return effective["num_beams"] == 1 and cache is None and tree_handles_model

    def rows_per_request(self, effective: Mapping[str, Any]) -> int:
        """Return 1."""
        return 1

    def batches_requests(self, effective: Mapping[str, Any], cache: Mapping[str, Any] | None) -> bool:
        """Return True."""
        return True

    def decode(self, runtime: Runtime, requests: Sequence[Request]) -> list[Sample]:
        """Decode all requests in one batch."""
        from harness.backends.hf.tree import decode_tree

        return decode_tree(
            runtime.loaded,
            requests,
            runtime.detokenizer,
            capture=runtime.capture,
            on_step=runtime.on_step,
            on_work=runtime.on_work,
        )


class Beams:
    """Beam search and beam sampling by stock `generate` (`beams.py`)."""

    name = "beams"
    streams = False
    shares_batches = False

    def accepts(
        self, effective: Mapping[str, Any], cache: Mapping[str, Any] | None, tree_handles_model: bool
    ) -> bool:
        """Return whether it has several beams."""
        return effective["num_beams"] > 1

    def rows_per_request(self, effective: Mapping[str, Any]) -> int:
        """Return the number of beams."""
        return effective["num_beams"]

    def batches_requests(self, effective: Mapping[str, Any], cache: Mapping[str, Any] | None) -> bool:
        """Return whether prompts of different lengths may share a search.

        Beam sampling takes its noise from the global generator, and stock processors see the left padding of
        a ragged batch: those search one prompt at a time.
        """
        neutral = effective_decoding(Decoding(name="neutral"))
        without_processors = ("num_beams", "length_penalty", "early_stopping")
        return all(effective[name] == neutral[name] for name in neutral if name not in without_processors)

    def decode(self, runtime: Runtime, requests: Sequence[Request]) -> list[Sample]:
        """Search for the best sequence of each request."""
        from harness.backends.hf.beams import beam_search

        return _each_strategy(self, beam_search, runtime, requests)


class StockGenerate:
    """Stock `generate`, one strategy at a time (`stock_generate.py`): for what the tree does not handle."""

    name = "stock_generate"
    streams = True
    shares_batches = False

    def accepts(
        self, effective: Mapping[str, Any], cache: Mapping[str, Any] | None, tree_handles_model: bool
    ) -> bool:
        """Return whether one row decodes it."""
        return effective["num_beams"] == 1

    def rows_per_request(self, effective: Mapping[str, Any]) -> int:
        """Return 1."""
        return 1

    def batches_requests(self, effective: Mapping[str, Any], cache: Mapping[str, Any] | None) -> bool:
        """Return whether the cache is the model's own: a quantized one shares its scales over the batch."""
        return cache is None

    def decode(self, runtime: Runtime, requests: Sequence[Request]) -> list[Sample]:
        """Decode each strategy's requests by themselves."""
        from harness.backends.hf.stock_generate import stock_generate

        return _each_strategy(self, stock_generate, runtime, requests)


METHODS: tuple[Method, ...] = (Tree(), Beams(), StockGenerate())
"""All methods; a strategy takes the first that accepts it."""


def method_of(
    effective: Mapping[str, Any],
    cache: Mapping[str, Any] | None = None,
    *,
    tree_handles_model: bool = True,
) -> Method:
    """Return the method that decodes a strategy.

    Args:
        effective: every GenerationConfig field, explicit (`config/effective.py`).
        cache: settings of a quantized key-value cache; None for the model's own.
        tree_handles_model: what the self-test at load found.
    """
    return next(method for method in METHODS if method.accepts(effective, cache, tree_handles_model))


def _each_strategy(
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
