"""A prompt as the model gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt and its token ids, checked to fit the model.

    Attributes:
        id: stable between runs; given by the row, else made from its content.
        text: the text as the model gets it, after template and chat template.
        ids: its token ids, special tokens included exactly once; empty only where the model's tokenizer is
            not known, of a server that takes texts.
        row: the row's other columns (`reference` among them), for templates and metrics.
        turns: of a chat, the messages that its text was made of; empty for a text.
    """

    id: str
    text: str
    ids: tuple[int, ...]
    row: Mapping[str, Any] = field(default_factory=dict)
    turns: tuple[Mapping[str, Any], ...] = ()

    @property
    def chat(self) -> bool:
        """Whether it went through the chat template."""
        return bool(self.turns)
