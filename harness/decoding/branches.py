"""Chain-of-thought decoding (Wang and Zhou 2024, arXiv:2402.10200): outputs by their first token."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from harness.decoding.upload import on_device
from harness.errors import HarnessError


def tokens_of_rank(logits: Tensor, ranks: Sequence[int]) -> Tensor:
    """Return (R,) the token of each row of (R, V) logits that has this rank, 0 for the likeliest.

    Of equal tokens the one with the lower id comes first.

    Raises:
        HarnessError: a row has fewer tokens than that.
    """
    index = on_device(ranks, logits.device)
    left = int((logits > float("-inf")).sum(-1).amin())
    if max(ranks) >= left:
        problem = f"decoding.cot_branches: sample {max(ranks)} has no first token, the strategy leaves {left}"
        raise HarnessError(f"{problem}; set generation.samples={max(left, 1)}")
    order = logits.sort(dim=-1, descending=True, stable=True).indices
    return order.gather(1, index[:, None])[:, 0]
