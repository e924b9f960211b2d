"""The decoding methods of this backend, and which of them a strategy takes.

A strategy with a decoding loop of its own is one more class, in a file of its own, and one line in METHODS.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from harness.backends.backend import Failure, Request
from harness.backends.hf.decoding_method import (
    Method,
    Prompts,
    Runtime,
    Settings,
    Steps,
    decode_each_strategy,
)
from harness.config.decoding import Decoding
from harness.config.effective import acts, decoding_fields, effective_decoding, has_groups, searches
from harness.config.guided_fields import rows_per_text

if TYPE_CHECKING:
    from harness.backends.hf.search_outputs import Search
    from harness.decoding.strategy import Strategy
    from harness.models.load import LoadedModel
    from harness.store.records import Sample

# ruff: noqa: D102 (the methods of the classes are documented in `Method`)


class Tree(Method):
    """One token a step from one row: strategies share a batch, and rows where they agree (`tree.py`)."""

    name = "tree"
    shares_batches = True

    def accepts(self, effective: Settings, cache: Settings | None, tree_is_right: bool) -> bool:
        return not searches(effective) and cache is None and tree_is_right

    def rows_per_request(self, effective: Settings) -> int:
        return rows_per_text(effective)

    def batches_requests(self, effective: Settings, cache: Settings | None) -> bool:
        return True

    def decode(self, runtime: Runtime, requests: Sequence[Request]) -> list[Sample | Failure]:
        from harness.backends.hf.shared_prefix import pays
        from harness.backends.hf.tree import decode_tree

        share_prefix = (
            runtime.static_steps is None and pays(requests, runtime.loaded.device) and runtime.shared_prefix()
        )
        return decode_tree(
            runtime.loaded,
            requests,
            runtime.detokenizer,
            static_steps=runtime.static_steps,
            share_prefix=share_prefix,
            amateur=runtime.amateur,
            recorder=runtime.recorder,
            on_step=runtime.on_step,
            on_work=runtime.on_work,
        )


class Beams(Method):
    """Beam search and beam sampling by stock `generate` (`beams.py`)."""

    name = "beams"
    streams = False
    searches = True

    def accepts(self, effective: Settings, cache: Settings | None, tree_is_right: bool) -> bool:
        return effective["num_beams"] > 1

    def rows_per_request(self, effective: Settings) -> int:
        return effective["num_beams"]

    def batches_requests(self, effective: Settings, cache: Settings | None) -> bool:
        """Return whether prompts of different lengths may share a search.

        Beam sampling takes its noise from the global generator, and stock processors see the left padding of
        a ragged batch: those search one prompt at a time.
        """
        neutral = effective_decoding(Decoding(name="neutral"))
        without_processors = ("num_beams", *decoding_fields("beam"))
        return all(effective[name] == neutral[name] for name in neutral if name not in without_processors)

    def decode(self, runtime: Runtime, requests: Sequence[Request]) -> list[Sample | Failure]:
        from harness.backends.hf.beams import beam_search

        return decode_each_strategy(self, beam_search, runtime, requests)


class OwnSearch(Method):
    """A search of ours that follows several sequences of each prompt (`search_outputs.py`)."""

    streams = False
    moves_rows = True

    @abstractmethod
    def search(self) -> type[Search]:
        """Return what searches."""

    def rows_per_request(self, effective: Settings) -> int:
        return effective["num_beams"]

    def batches_requests(self, effective: Settings, cache: Settings | None) -> bool:
        return True

    def decode(self, runtime: Runtime, requests: Sequence[Request]) -> list[Sample | Failure]:
        from harness.backends.hf.search_outputs import search_outputs

        return decode_each_strategy(self, partial(search_outputs, self.search()), runtime, requests)

    def timed_steps(
        self, loaded: LoadedModel, strategy: Strategy, prompts: Prompts, use_cache: bool
    ) -> Steps:
        from harness.backends.hf.search_outputs import search_steps

        return search_steps(self.search(), loaded, strategy, prompts, use_cache)


class DiverseBeams(OwnSearch):
    """Diverse beam search: groups of beams that avoid each other's tokens (`diverse_beams.py`)."""

    name = "diverse_beams"

    def accepts(self, effective: Settings, cache: Settings | None, tree_is_right: bool) -> bool:
        return has_groups(effective)

    def search(self) -> type[Search]:
        from harness.backends.hf.diverse_beams import DiverseBeams

        return DiverseBeams


class ConstrainedBeams(OwnSearch):
    """Constrained beam search: outputs that hold some words (`constrained_beams.py`)."""

    name = "constrained_beams"

    def accepts(self, effective: Settings, cache: Settings | None, tree_is_right: bool) -> bool:
        return acts(effective, "force_words_ids")

    def search(self) -> type[Search]:
        from harness.backends.hf.constrained_beams import ConstrainedBeams

        return ConstrainedBeams


class StochasticBeams(OwnSearch):
    """Stochastic beam search: samples without replacement (`stochastic_beams.py`)."""

    name = "stochastic_beams"

    def accepts(self, effective: Settings, cache: Settings | None, tree_is_right: bool) -> bool:
        return acts(effective, "stochastic_beams")

    def rows_per_request(self, effective: Settings) -> int:
        return 1

    def search(self) -> type[Search]:
        from harness.backends.hf.stochastic_beams import StochasticBeams

        return StochasticBeams


class OwnLoop(Method):
    """A decoding loop of the user's own (`own_loop.py`)."""

    name = "own_loop"
    streams = False

    def accepts(self, effective: Settings, cache: Settings | None, tree_is_right: bool) -> bool:
        return acts(effective, "generate")

    def batches_requests(self, effective: Settings, cache: Settings | None) -> bool:
        return True

    def decode(self, runtime: Runtime, requests: Sequence[Request]) -> list[Sample | Failure]:
        from harness.backends.hf.own_loop import own_loop

        return decode_each_strategy(self, own_loop, runtime, requests)

    def timed_steps(
        self, loaded: LoadedModel, strategy: Strategy, prompts: Prompts, use_cache: bool
    ) -> Steps:
        from harness.backends.hf.own_loop import own_loop_steps

        return own_loop_steps(loaded, strategy, prompts)


class ContrastiveSearch(Method):
    """Contrastive search: the likeliest tokens compared by what they repeat (`contrastive_search.py`)."""

    name = "contrastive_search"
    moves_rows = True

    def accepts(self, effective: Settings, cache: Settings | None, tree_is_right: bool) -> bool:
        return acts(effective, "penalty_alpha")

    def rows_per_request(self, effective: Settings) -> int:
        return effective["top_k"]

    def batches_requests(self, effective: Settings, cache: Settings | None) -> bool:
        return True

    def decode(self, runtime: Runtime, requests: Sequence[Request]) -> list[Sample | Failure]:
        from harness.backends.hf.contrastive_search import contrastive_search

        return decode_each_strategy(self, contrastive_search, runtime, requests, recorder=runtime.recorder)

    def timed_steps(
        self, loaded: LoadedModel, strategy: Strategy, prompts: Prompts, use_cache: bool
    ) -> Steps:
        from harness.backends.hf.contrastive_search import contrastive_steps

        return contrastive_steps(loaded, strategy, prompts, use_cache)


class StockGenerate(Method):
    """Stock `generate`, one strategy at a time (`stock_generate.py`): for what the tree does not handle."""

    name = "stock_generate"

    def accepts(self, effective: Settings, cache: Settings | None, tree_is_right: bool) -> bool:
        return not searches(effective)

    def rows_per_request(self, effective: Settings) -> int:
        return rows_per_text(effective)

    def batches_requests(self, effective: Settings, cache: Settings | None) -> bool:
        """Return whether the cache is the model's default: a quantized one shares scales over the batch."""
        return cache is None

    def decode(self, runtime: Runtime, requests: Sequence[Request]) -> list[Sample | Failure]:
        from harness.backends.hf.stock_generate import stock_generate

        more = {"amateur": runtime.amateur, "recorder": runtime.recorder}
        return decode_each_strategy(self, stock_generate, runtime, requests, **more)


METHODS: tuple[Method, ...] = (
    Tree(), OwnLoop(), DiverseBeams(), ConstrainedBeams(), StochasticBeams(), Beams(), ContrastiveSearch(),
    StockGenerate(),
)  # fmt: skip
"""All methods; a strategy takes the first that accepts it."""


def method_of(effective: Settings, cache: Settings | None = None, *, tree_is_right: bool = True) -> Method:
    """Return the method that decodes a strategy; `tree_is_right` is what the self-test at load found."""
    return next(method for method in METHODS if method.accepts(effective, cache, tree_is_right))
