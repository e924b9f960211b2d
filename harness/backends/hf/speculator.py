"""Speculative decoding on a loaded model; a `backends.drafting.Speculator`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from harness.analysis.speculative_blocks import SpeculativeText
from harness.backends.backend import Request
from harness.backends.drafting import Draft, DraftedText
from harness.backends.hf.drafts_along import drafts_along
from harness.backends.hf.early_exit import FirstLayers
from harness.backends.hf.speculative_loop import (
    AsModel,
    ModelDraft,
    PromptLookup,
    Proposer,
    Reader,
    Target,
    speculate,
)
from harness.backends.hf.strategy_chain import StrategyChain
from harness.decoding.detokenizer import Detokenizer
from harness.models.load import LoadedModel


class HfSpeculator:
    """The drafts of a model, and its speculative loop."""

    def __init__(
        self,
        loaded: LoadedModel,
        detokenizer: Detokenizer,
        model_of: Callable[[str], LoadedModel],
        tree_is_right: bool,
    ) -> None:
        """Take a model.

        Args:
            loaded: the model.
            detokenizer: of its tokenizer.
            model_of: returns the loaded model that `speculation.draft` names.
            tree_is_right: whether the self-test found its cache to be read right step by step.
        """
        self._loaded, self._detokenizer, self._model_of = loaded, detokenizer, model_of
        self._tree_is_right = tree_is_right

    @property
    def obstacle(self) -> str | None:
        """Why the loop cannot be run with the model; None where it can."""
        if not self._tree_is_right:
            return "its cache is not read right step by step"
        layers = DynamicCache(config=self._loaded.model.config).layers
        if any(type(layer) is not DynamicLayer for layer in layers):
            return "its cache cannot forget rejected tokens"
        return None

    def along(
        self, texts: Sequence[tuple[Request, Sequence[int]]], drafts: Sequence[Draft]
    ) -> list[Mapping[str, DraftedText]]:
        """Return what drafts that have distributions propose along texts of one strategy."""
        models = {draft.name: self._model(draft) for draft in drafts if draft.kind != "prompt_lookup"}
        return drafts_along(self._loaded, texts, models) if models else [{} for _ in texts]

    def run(self, request: Request, draft: Draft | None, block: int) -> SpeculativeText:
        """Generate one text, of which a draft proposes up to `block` tokens a forward pass."""
        target = Target(Reader(self._loaded), StrategyChain(self._loaded, [request]), request)
        proposer = None if draft is None else self._proposer(draft, request)
        return speculate(target, proposer, request, block, self._detokenizer)

    def _proposer(self, draft: Draft, request: Request) -> Proposer:
        if draft.kind == "prompt_lookup":
            return PromptLookup(request, draft.ngram)
        chain = StrategyChain(self._loaded, [request], of_draft=True)
        vocabulary = self._loaded.model.config.get_text_config().vocab_size
        return ModelDraft(Reader(*self._model(draft)), chain, request, vocabulary)

    def _model(self, draft: Draft) -> tuple[LoadedModel, AsModel]:
        if draft.kind == "early_exit":
            return self._loaded, FirstLayers(self._loaded.model, draft.layers)
        return self._model_of(draft.model), nullcontext
