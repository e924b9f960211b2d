"""The Gumbel watermark (Aaronson 2022): tokens are drawn with noise that is a hash of a key and a context.

It stands in place of the noise of the sample (`gumbel.py`), so each token has the law of the strategy; who
has the key sees that the noise of the chosen tokens is too large. Where a context occurred before in a text,
the token is drawn with the sample's own noise: noise that comes again would make a text repeat itself, and
would change the law of texts (Hu et al. 2023, arXiv:2310.10669).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.decoding.gumbel_numpy import key_of_step, step_states, uniform

if TYPE_CHECKING:
    from harness.decoding.texts import Texts


class KeyedNoise:
    """The watermark with its key."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings` are the fields `gumbel_...` of a strategy."""
        self._key: int = settings["gumbel_key"]
        self.width: int = settings["gumbel_context_width"]

    def key(self, text: Sequence[int], prompt_tokens: int) -> int | None:
        """Return the noise key of the next token of a text, at step 0; None where its context came before.

        Args:
            text: ids of the prompt, or of its end, and of the output.
            prompt_tokens: how many of them are the prompt's.
        """
        context = text[-self.width :]
        earlier = text[max(0, prompt_tokens - self.width) : -1]
        if len(earlier) >= self.width and len(context) == self.width:
            windows = np.lib.stride_tricks.sliding_window_view(np.asarray(earlier), self.width)
            if bool((windows == np.asarray(context)).all(1).any()):
                return None
        return self._hashed(context)

    def keys(self, texts: Texts, own: Sequence[int]) -> list[int]:
        """Return the keys of rows at their next step: as `key`, their `own` where a context came before."""
        first = max(0, texts.width - self.width)  # of the prompts, the end is enough
        step = texts.ids.shape[1] - texts.width
        found = []
        for ids, length, key in zip(texts.ids[:, first:].tolist(), texts.prompt_tokens, own, strict=True):
            kept = min(length, self.width)
            keyed = self.key(ids[texts.width - first - kept :], kept)
            found.append(key if keyed is None else key_of_step(keyed, -step))
        return found

    def detected(self, output: Sequence[int]) -> np.ndarray:
        """Return -ln(1 - u) of an output's tokens, u their uniform numbers: exponential where not marked.

        Of the tokens with a whole context in the output that did not occur there before.
        """
        keys, tokens, seen = [], [], set()
        for at in range(self.width, len(output)):
            context = tuple(output[at - self.width : at])
            if context not in seen:
                seen.add(context)
                keys.append(self._hashed(context))
                tokens.append(output[at])
        if not keys:
            return np.zeros(0)
        states = step_states(np.array(keys, dtype=np.int64), np.zeros(len(keys), dtype=np.int64))
        return -np.log1p(-uniform(states, np.array(tokens, dtype=np.int64)))

    def _hashed(self, context: Sequence[int]) -> int:
        text = f"{self._key}\x1f{','.join(map(str, context))}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)
