"""The token that ends a chat answer, as the chat template writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_QUESTION, _ANSWER = "Q7question", "A7answer"


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the id of the first special token after an answer that the chat template has rendered.

    Where the template writes none, or refuses the turns, the tokenizer's EOS; None without that.
    """
    turns: list[Any] = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
    except Exception:  # a template is a program: it may fail at these turns with any error
        return tokenizer.eos_token_id
    _, found, rest = str(text).rpartition(_ANSWER)
    ids = tokenizer(rest, add_special_tokens=False, verbose=False)["input_ids"] if found else []
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return next((token for token in ids if token in special), tokenizer.eos_token_id)
