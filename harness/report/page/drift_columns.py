"""The drift of a prompt's texts as one piece of a page: what both models made of every token.

A piece begins with a line of JSON that names its blocks, and holds of each its columns one after the other,
laid out as in token_data.py. A block ["reference", point, sample, steps, alternatives] has the reference's
own columns, once; ["drift", point, block, steps, alternatives] those of a quantized point along the text of
the block whose place is named. Divergences and differences span many powers of ten, which half-precision
floats do not: they take the upper three bytes of a float, which keep 1 part in 60,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.report.page.shell import packed, safe_json
from harness.report.page.token_columns import Vocabulary, half, whole
from harness.store.token_table import TokenColumns

if TYPE_CHECKING:
    import numpy as np

LEAST_STEP_BYTES = 4
"""No step takes less of a page, even where precisions agree."""

DRIFT_COLUMNS = (
    "position", "token", "logprob", "drift_logprob", "rank", "drift_rank", "same_top", "kl", "kl_error",
    "total_variation", "entropy", "drift_entropy", "top_tokens", "top_logprobs",
)  # fmt: skip


Along = tuple[int, int, int, TokenColumns, "TokenColumns | None"]
"""Places of the reference and of the quantized point, a sample, its drift, and the reference's own steps."""


def places_in(texts: Sequence[Along]) -> np.ndarray:
    """Distinct places of all tokens and alternatives that these texts name."""
    import numpy as np

    named = [
        part.reshape(-1) for *_, drifted, _ in texts for part in (drifted["token"], drifted["top_tokens"])
    ]
    named += [own["top_tokens"].reshape(-1) for *_, own in texts if own is not None]
    distinct = np.unique(np.concatenate(named)) if named else np.empty(0, np.int64)
    return distinct[distinct >= 0]


def drift_piece(texts: Sequence[Along], vocabulary: Vocabulary) -> str:
    """These texts packed; their tokens must be in the vocabulary."""
    blocks: list[list[Any]] = []
    columns: list[bytes] = []
    places: dict[tuple[int, int], int] = {}
    for reference, point, sample, drifted, own in texts:
        count = len(drifted)
        if (reference, sample) not in places:
            places[reference, sample] = len(blocks)
            # The reference's own table has its alternatives, if it recorded as many steps.
            k = own["top_tokens"].shape[1] if own is not None and len(own) == count else 0
            blocks.append(["reference", reference, sample, count, k])
            columns += _reference(drifted, own if k else None, vocabulary)
        blocks.append(["drift", point, places[reference, sample], count, int(drifted["top_tokens"].shape[1])])
        columns += _drift(drifted, vocabulary)
    return packed(b"".join([safe_json(blocks).encode("ascii"), b"\n", *columns]))


def _reference(drifted: TokenColumns, own: TokenColumns | None, vocabulary: Vocabulary) -> list[bytes]:
    """In the order in which the page's `precision_steps.js` takes them off, as with those below."""
    told = [
        whole(vocabulary.of(drifted["token"])),
        half(drifted["logprob"]),
        whole(drifted["rank"]),
        half(drifted["entropy"]),
    ]
    return (
        told if own is None else [*told, whole(vocabulary.of(own["top_tokens"])), half(own["top_logprobs"])]
    )


def _drift(drifted: TokenColumns, vocabulary: Vocabulary) -> list[bytes]:
    import numpy as np

    with np.errstate(invalid="ignore"):
        change = drifted["drift_logprob"].astype(np.float64) - drifted["logprob"]
    return [
        wide(drifted["kl"]),
        wide(drifted["kl_error"]),
        wide(change),
        half(drifted["total_variation"]),
        whole(drifted["drift_rank"]),
        half(drifted["drift_entropy"]),
        whole(drifted["same_top"]),
        whole(vocabulary.of(drifted["top_tokens"])),
        half(drifted["top_logprobs"]),
    ]


def wide(values: Any) -> bytes:
    """The upper three bytes of floats, rounded, as three planes of bytes."""
    import numpy as np

    flat = np.asarray(values, np.float32).reshape(-1)
    bits = flat.view(np.uint32).astype(np.uint64)
    upper = np.where(np.isfinite(flat), (bits + 0x80) >> 8, bits >> 8).astype("<u4")
    return upper.view(np.uint8).reshape(-1, 4)[:, :3].T.tobytes()
