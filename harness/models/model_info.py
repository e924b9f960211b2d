"""What prompts and plans need to know of a model, wherever it runs."""

from __future__ import annotations

from typing import Protocol


class ModelInfo(Protocol):
    """A model before it is loaded; `locate.ModelFiles` is one, read from a checkpoint's small files."""

    @property
    def id(self) -> str:
        """What the model is called: a hub id, a folder, a server's name for it."""

    @property
    def context_length(self) -> int | None:
        """Positions that prompt and output share; None where there is no limit or it is unknown."""

    @property
    def vocab_size(self) -> int | None:
        """Entries of the output distribution; None where it is unknown."""

    @property
    def layers(self) -> int | None:
        """Layers between the embeddings and the output; None where their number is unknown."""
