"""Second models, amateurs and drafts, loaded when one is first needed."""

from __future__ import annotations

from collections.abc import Callable

from harness.backends.hf.self_test import tree_is_right
from harness.config.guided_fields import amateur_id
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError
from harness.models.load import LoadedModel, free


class Amateurs:
    """Loaded models by what the config calls them; one that cannot be used is tried once."""

    def __init__(self, load: Callable[[str], LoadedModel]) -> None:
        """`load` loads a model by its name."""
        self._load = load
        self._found: dict[str, LoadedModel | HarnessError] = {}

    def __len__(self) -> int:
        return len(self._found)

    def of(self, strategy: Strategy) -> LoadedModel | None:
        """Return the amateur of a strategy, None where it has none; raises as `get`."""
        name = amateur_id(strategy.effective)
        return None if name is None else self.get(name)

    def get(self, name: str) -> LoadedModel:
        """Return a model.

        Raises:
            HarnessError: it cannot be loaded, or not be decoded step by step.
        """
        if name not in self._found:
            try:
                self._found[name] = self._loaded(name)
            except HarnessError as error:
                self._found[name] = error
        found = self._found[name]
        if isinstance(found, HarnessError):
            raise found
        return found

    def close(self) -> None:
        """Free the models."""
        for found in self._found.values():
            if isinstance(found, LoadedModel):
                free(found)
        self._found.clear()

    def _loaded(self, name: str) -> LoadedModel:
        loaded = self._load(name)
        if tree_is_right(loaded, Detokenizer(loaded.tokenizer)):
            return loaded
        kind = loaded.facts["architecture"]
        free(loaded)
        raise HarnessError(
            f"{name} as a second model: a batch of {kind} cannot be read step by step (a self-test at load "
            "differed from its forward pass); choose another model"
        )
