"""Which ways of decoding are right with a loaded model: the self-test's findings, and what users are told."""

from __future__ import annotations

from functools import cached_property

from harness.backends.backend import Request
from harness.backends.hf.decoding_method import GENERATE_MODES, GenerateMode, Method
from harness.backends.hf.self_test import (
    Expected,
    beam_mode,
    generate_mode,
    prefix_is_right,
    reads_one_token,
    tree_is_right,
)
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError
from harness.models.load import LoadedModel

_NOT_THE_TREE = (
    "the tree does not handle this model's cache (a self-test at load differed from its forward pass): each "
    "strategy is decoded by stock `generate`, one after the other"
)
_NOTES = {
    GenerateMode("any"): "batches are padded",
    GenerateMode("equal_length"): "it misreads padded batches, so only prompts of one length share a batch",
    GenerateMode("none"): "it misreads batches, so one prompt is decoded at a time",
    GenerateMode("none", use_cache=False): "its cache is not right either, so each step reads the whole text",
}


class VerifiedModes:
    """The ways of decoding that are right with a model; some are tested when they are first asked for.

    Attributes:
        tree_is_right: whether the tree decodes it, so that its cache can be read step by step.
    """

    def __init__(self, loaded: LoadedModel, detokenizer: Detokenizer) -> None:
        """Test the tree, else stock `generate`.

        Raises:
            HarnessError: neither is right with the model, or its logits are not finite.
        """
        self._loaded, self._detokenizer = loaded, detokenizer
        self._name = f"{loaded.files.id} ({loaded.facts['architecture']})"
        self._expected = Expected(loaded)
        self.tree_is_right = tree_is_right(loaded, detokenizer, self._expected)
        found = GenerateMode() if self.tree_is_right else generate_mode(loaded, detokenizer)
        if found is None:
            raise HarnessError(
                f"model.id: {self._name} cannot be decoded: token by token it gives other probabilities than "
                "its forward pass over the same text; it is no left-to-right language model, or its code is "
                "broken; choose another model"
            )
        self.generate = found

    @cached_property
    def _reads_one_token(self) -> bool:
        return reads_one_token(self._loaded, self._detokenizer, self.generate)

    @cached_property
    def shared_prefix(self) -> bool:
        """Whether rows of the tree can share the keys and values of their prompts."""
        if not self.tree_is_right or self._loaded.placement.kind != "single":
            return False
        return prefix_is_right(self._loaded, self._detokenizer, self._expected)

    @cached_property
    def beams(self) -> GenerateMode | None:
        """How stock beam search decodes the model; None where no mode is right."""
        return beam_mode(self._loaded)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What users of the samples should know of the ways that were tested."""
        found = () if self.tree_is_right else (f"{_NOT_THE_TREE}; {_NOTES[self.generate]}",)
        beams = self.__dict__.get("beams")  # only if they were asked for
        return found if beams in (None, GenerateMode()) else (*found, f"beam search: {_NOTES[beams]}")

    def mode_of(self, method: Method, strategy: Strategy) -> GenerateMode:
        """Return how stock `generate` reads prompts for a strategy.

        Raises:
            HarnessError: it is right in no mode, or would not use the cache that the strategy asks for.
        """
        mode = self.beams if method.searches else self.generate
        if method.moves_rows and not self.tree_is_right:
            mode = GENERATE_MODES[-1]
        if mode is None:
            raise HarnessError(
                f"decoding.num_beams: stock beam search is not right with {self._name}: its scores are not "
                "those of its texts; use a strategy without beams"
            )
        if strategy.cache is not None and not mode.use_cache:
            raise HarnessError(f"cache: {self._name} is not right with any cache; use cache=default")
        return mode

    def check_prompt(self, request: Request) -> None:
        """Check that a prompt, or the one it is contrasted with, is not too short for the model.

        Raises:
            HarnessError: it has one token, which the model misreads.
        """
        shortest = len(request.prompt.ids) == 1, len(request.second_prompt) == 1
        if not any(shortest) or self._reads_one_token:
            return
        one = "it has one token, which this model does not read as the beginning of a text"
        if shortest[0]:
            raise HarnessError(f"prompt {request.prompt.id}: {one}; give it a longer prompt")
        key = f"prompt {request.prompt.id}: the one it is contrasted with"
        raise HarnessError(f"{key}: {one}; set decoding.negative_prompt to a longer one")

    def check_batch_size(self, method: Method, strategy: Strategy, size: int) -> None:
        """Check that so many prompts can be timed together.

        Raises:
            HarnessError: the model misreads batches of prompts.
        """
        mode = self.mode_of(method, strategy)
        if size > 1 and mode.together != "any":
            raise HarnessError(f"timing.batch_size={size}: {_NOTES[mode]}; use timing.batch_size=1")
