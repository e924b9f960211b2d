"""What is known of a field of `Decoding` beside its type and range; types that fields share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

SamplerName = Literal[
    "temperature", "smoothing", "top_n_sigma", "top_h", "top_k", "top_p", "min_p", "typical_p",
    "epsilon_cutoff", "eta_cutoff", "tfs", "top_a", "p_less", "xtc", "mirostat", "adaptive_p", "skew",
]  # fmt: skip
"""The samplers in the order in which they act, transformers' own among them in its order."""


Share = Annotated[float, Field(gt=0, le=1)]
Penalty = Annotated[float, Field(ge=-100, le=100)]
Window = Annotated[int, Field(ge=-1, le=2**31 - 1)]
MarkKey = Annotated[int, Field(ge=1, le=2**53 - 1)]

FieldKind = Literal[
    "method", "guidance", "temperature", "truncation", "penalty", "bias", "order", "beam", "length", "filter",
    "structure", "watermark", "numerics", "own",
]  # fmt: skip
"""What a field of `Decoding` acts on.

method: how the next token is chosen (sampling, searches). guidance: a second distribution, which the model's
own is contrasted with. temperature, truncation: the distribution that is sampled from. penalty: tokens that
occurred before. bias: chosen tokens. order: of the samplers. beam: the ranking of beams. length: the end of a
text. filter: forbidden tokens. structure: what the whole output must be. watermark: a mark that a detector
finds in the output. numerics: the scores as numbers. own: whatever the user's code does.
"""


@dataclass(frozen=True)
class DecodingField:
    """What is known of a field of `Decoding` beside its type and range.

    Attributes:
        kind: what it acts on.
        neutral: the value that changes nothing; null in a config means this value.
        needs: another field that it refines: without that one it has no effect.
        stock: whether it is a field of GenerationConfig.
    """

    kind: FieldKind
    neutral: Any
    needs: str | None = None
    stock: bool = False


def stock_field(kind: FieldKind, neutral: Any) -> DecodingField:
    """A field of GenerationConfig, with the value with which transformers adds no processor."""
    return DecodingField(kind, neutral, stock=True)
