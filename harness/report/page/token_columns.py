"""The tokens of a prompt as one piece of a page: columns of bytes, small and quick to open.

A piece begins with a line of JSON that names its samples, as [point, sample, steps, alternatives], and holds
of each its columns one after the other. Token places, ranks and counts take three bytes, other numbers are
half-precision floats, which keep a logprob to 1 part in 2,000; the bytes of a column are laid out plane by
plane, first all lowest bytes, because gzip finds more in them that way. Strategies that agree have equal
columns, which cost nearly nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.report.page.shell import packed, safe_json
from harness.store.token_table import TokenColumns, TokenVocabulary

if TYPE_CHECKING:
    import numpy as np

LEAST_STEP_BYTES = 8
"""No step takes less of a page, even where strategies agree; so steps past budget / this need not be read."""

NOTHING = 0xFFFFFF
"""The place of an alternative that is not there."""

STEP_COLUMNS = (
    "position", "token", "logprob", "warped_logprob", "rank", "entropy", "warped_entropy", "kept",
    "kept_mass", "top_tokens", "top_logprobs", "top_warped_logprobs",
)  # fmt: skip

Named = tuple[int, int, TokenColumns]
"""A point's place, a sample and its steps."""


class Vocabulary:
    """Tokens that the pieces of a page name, out of all pairs that were read."""

    def __init__(self, pairs: TokenVocabulary) -> None:
        self.pairs = pairs
        self.ids: list[int] = []
        self.texts: list[str] = []
        self._kept: np.ndarray | None = None

    def keep(self, places: np.ndarray) -> None:
        """Take these pairs in, where they are not in yet."""
        kept = self._table()
        for place in places[kept[places] < 0].tolist():
            kept[place] = len(self.ids)
            self.ids.append(self.pairs.ids[place])
            self.texts.append(self.pairs.texts[place])

    def cost(self, places: np.ndarray) -> int:
        """Bytes of a page that taking them in would need, at the most."""
        new = places[self._table()[places] < 0].tolist()
        return sum(len(safe_json([self.pairs.ids[p], self.pairs.texts[p]])) for p in new) * 4 // 3

    def of(self, places: np.ndarray) -> np.ndarray:
        """Their places in the page; NOTHING for -1."""
        import numpy as np

        return np.where(places < 0, NOTHING, self._table()[places])

    def _table(self) -> np.ndarray:
        import numpy as np

        size = len(self.pairs.ids)
        if self._kept is None or len(self._kept) < size:
            grown = np.full(size, -1, np.int64)
            if self._kept is not None:
                grown[: len(self._kept)] = self._kept
            self._kept = grown
        return self._kept


def tokens_of(samples: Sequence[Named]) -> np.ndarray:
    """Distinct places of all tokens and alternatives that these samples name."""
    import numpy as np

    named = [part.reshape(-1) for _, _, steps in samples for part in (steps["token"], steps["top_tokens"])]
    distinct = np.unique(np.concatenate(named)) if named else np.empty(0, np.int64)
    return distinct[distinct >= 0]


def token_piece(samples: Sequence[Named], vocabulary: Vocabulary) -> str:
    """These samples packed; their tokens must be in the vocabulary."""
    head = [
        [point, sample, len(steps), int(steps["top_tokens"].shape[1])] for point, sample, steps in samples
    ]
    parts = [safe_json(head).encode("ascii"), b"\n"]
    for _, _, steps in samples:
        parts += _columns(steps, vocabulary)
    return packed(b"".join(parts))


def _columns(steps: TokenColumns, vocabulary: Vocabulary) -> list[bytes]:
    """In the order in which the page's `steps.js` takes them off."""
    return [
        whole(vocabulary.of(steps["token"])),
        whole(steps["rank"]),
        whole(steps["kept"]),
        half(steps["logprob"]),
        half(steps["warped_logprob"]),
        half(steps["entropy"]),
        half(steps["warped_entropy"]),
        half(1 - steps["kept_mass"]),
        whole(vocabulary.of(steps["top_tokens"])),
        half(steps["top_logprobs"]),
        half(steps["top_warped_logprobs"]),
    ]


def whole(values: Any) -> bytes:
    """Numbers from 0 to NOTHING as three planes of bytes."""
    import numpy as np

    clipped = np.clip(np.nan_to_num(np.asarray(values).reshape(-1)), 0, NOTHING).astype("<u4")
    return clipped.view(np.uint8).reshape(-1, 4)[:, :3].T.tobytes()


def half(values: Any) -> bytes:
    """Half-precision floats as two planes of bytes."""
    import numpy as np

    flat = np.asarray(values, np.float32).reshape(-1)
    return flat.astype("<f2").view(np.uint8).reshape(-1, 2).T.tobytes()
