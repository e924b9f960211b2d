"""What guided strategies see at a step instead of the logits: computed once for all that see the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.backends.hf.wide_head import in_blocks
from harness.backends.steps.recorder import RawStep
from harness.decoding.guidance import Dola, Guidance, all_layers
from harness.decoding.upload import on_device
from harness.models.load import LoadedModel


@dataclass(frozen=True)
class GuidedRow:
    """A row of the batch under guidance: `second` is the row that it is contrasted with.

    Of the same batch, or the amateur's; of DoLa, which needs none, it is -1.
    """

    guidance: Guidance
    row: int
    second: int


SecondOf = Callable[[Guidance, Tensor, Tensor], Tensor]
"""(guidance, rows (M,), second rows (M,)) -> what the guidance takes as `second`, of these rows."""


class Layers:
    """The early predictions of a model that strategies with DoLa contrast it with."""

    def __init__(self, loaded: LoadedModel, guided: Sequence[Guidance | None]) -> None:
        """Find out which layers they need."""
        config = loaded.model.config.get_text_config()
        self._model = loaded.model
        self._count = int(config.num_hidden_layers)
        self._tied = bool(config.tie_word_embeddings)
        self.wanted = all_layers(guided, self._count, self._tied)

    def log_probs(self, guidance: Dola, hidden: Tensor) -> Tensor:
        """Return (M, L, V) what the output head makes of (M, all wanted, H) hidden states."""
        columns = [self.wanted.index(layer) for layer in guidance.candidates(self._count, self._tied)]
        head: Any = self._model.get_output_embeddings()
        with in_blocks(self._model):
            return head(hidden[:, columns]).to(hidden.device).float().log_softmax(-1)


def with_guidance(
    raw: RawStep,
    rows: Sequence[GuidedRow],
    second_of: SecondOf,
) -> tuple[RawStep, dict[GuidedRow, int]]:
    """Return the step with what guided rows see behind its own logits, and where each is in `RawStep.seen`.

    Args:
        raw: of all rows of the batch, second prompts' rows among them.
        rows: what is wanted; equal ones are computed once.
        second_of: what they are contrasted with.
    """
    by_guidance: dict[Guidance, list[GuidedRow]] = {}
    for row in dict.fromkeys(rows):
        by_guidance.setdefault(row.guidance, []).append(row)
    device = raw.logits.device
    place: dict[GuidedRow, int] = {}
    scores: list[Tensor] = []
    for guidance, some in by_guidance.items():
        index = on_device([one.row for one in some], device)
        second = on_device([one.second for one in some], device)
        scores.append(guidance(raw.logits.select(index).log_p(), second_of(guidance, index, second)))
        place |= {one: len(raw.logits.values) + len(place) + number for number, one in enumerate(some)}
    if not scores:
        return raw, {}
    return raw.with_rows(torch.cat(scores)), place
