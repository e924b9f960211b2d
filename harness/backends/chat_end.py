"""What ends a chat answer of a checkpoint beside its EOS, by the chat template of its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.backends.backend import ChatEnd
from harness.models.end_of_turn import end_of_turn
from harness.models.locate import ModelFiles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def checkpoint_chat_end(name: str, info: ModelFiles, tokenizer: PreTrainedTokenizerBase) -> ChatEnd:
    """Return the chat template's end of turn, where the EOS of the model called `name` is another token."""
    eos = info.eos_token_ids or _ids(tokenizer.eos_token_id)
    end = end_of_turn(tokenizer)
    if end is None or end in eos or (info.vocab_size is not None and end >= info.vocab_size):
        return ChatEnd()
    note = (
        f"{name}: the chat template ends a turn with {_named([end], tokenizer)}, "
        f"{info.eos_source} ends a text with {_named(eos, tokenizer)}: chat prompts stop at both"
    )
    return ChatEnd((end,), (note,))


def _ids(found: int | list[int] | None) -> tuple[int, ...]:
    if found is None:
        return ()
    return (found,) if isinstance(found, int) else tuple(found)


def _named(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return ids with their token texts, for a message."""
    known = {id_: token for token, id_ in tokenizer.get_vocab().items()}
    return " and ".join(f"{id_} ({known.get(id_, 'no token')!r})" for id_ in ids) or "no token"
