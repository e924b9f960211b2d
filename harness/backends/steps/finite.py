"""Logits that are not finite: NaN or infinity, from weights that are damaged or a dtype that overflows.

They are looked for wherever logits are recorded or compared, so that nothing computed from them is stored.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from harness.errors import HarnessError
from harness.models.load import LoadedModel
from harness.store.records import Steps


def check_finite(logits: Tensor, loaded: LoadedModel, where: str) -> None:
    """Check (..., V) logits: a token may be impossible (-inf), but none NaN or +inf, and some possible.

    Raises:
        HarnessError: they are not; `where` says of which text.
    """
    if not bool(logits.amax(-1).isfinite().all()):
        raise not_finite(loaded, where)


def not_finite(loaded: LoadedModel, where: str) -> HarnessError:
    """Return the error about logits that are not finite, with the cure for the model's dtype."""
    cure = "the checkpoint is damaged: get its files again, or choose another model"
    if loaded.dtype == "float16":
        cure = "float16 overflows on this model: use quantization=bf16 or fp32"
    elif loaded.facts.get("quantized_modules"):
        cure = "try quantization=none; if that fails too, the checkpoint is damaged"
    return HarnessError(f"{where}: the model's logits are not finite in {loaded.dtype}; {cure}")


def first_not_finite(steps: Steps) -> tuple[int, bool] | None:
    """Return the first step of a sample whose numbers are not finite, and whether its raw logits are not.

    Where those are, the strategy's processors made it so. None where every step is finite.
    """
    if steps.entropy is None or steps.warped_entropy is None:
        return None
    raw = np.isfinite(steps.entropy)
    bad = np.flatnonzero(~(raw & np.isfinite(steps.warped_entropy)))
    return (int(bad[0]), not raw[bad[0]]) if len(bad) else None
