"""Prepare a prompt set for a model: read, render, encode, and make every prompt fit the context."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.config.point import Prompts
from harness.errors import ConfigError, Mistake
from harness.models.model_info import ModelInfo
from harness.prompts.prompt import Prompt
from harness.prompts.render import RenderedRow, encode, render_rows
from harness.prompts.source import read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MAX_CHARACTER = 4  # bytes of a character in UTF-8, so at most as many byte-level tokens
_MAX_TOKEN = (
    16  # characters per token of a text, on average; only the beginning of a longer one is encoded first
)


@dataclass(frozen=True)
class PreparedPrompts:
    """Prompts ready for a model, and warnings of one line each."""

    prompts: tuple[Prompt, ...]
    warnings: tuple[str, ...]


def prepare_prompts(
    prompts: Prompts, info: ModelInfo, tokenizer: PreTrainedTokenizerBase | None, max_new_tokens: int
) -> PreparedPrompts:
    """Read, render and encode a prompt set so that every prompt fits the model with its budget.

    Args:
        prompts: the prompt set.
        info: the model; its context length is the limit.
        tokenizer: of that model, with the chat template in use; None for a server that takes texts, whose
            prompts have no ids and are not checked for their length.
        max_new_tokens: tokens to be generated after each prompt.

    Raises:
        ConfigError: every mistake found in the set.
    """
    rendered, mistakes, warnings = render_rows(prompts, read_rows(prompts), tokenizer, info.id)
    context, vocab_size = info.context_length, info.vocab_size
    if tokenizer is not None and context is not None and max_new_tokens >= context:
        message = f"{max_new_tokens} leave no room for a prompt in the {context} positions of {info.id}"
        raise ConfigError([*mistakes, Mistake("generation.max_new_tokens", f"{message}; lower it")])
    done: list[Prompt] = []
    for entry in rendered:
        row = entry.row
        if tokenizer is None:
            done.append(Prompt(row.id, entry.text, (), row.fields, entry.turns))
            continue
        most = None if context is None or prompts.too_long != "error" else _MAX_TOKEN * context
        ids = encode(tokenizer, entry.text[:most])
        whole = most is None or len(entry.text) <= most
        if not whole and context is not None and len(ids) <= context:
            ids, whole = encode(tokenizer, entry.text), True
        try:
            if not ids:
                raise ValueError("the prompt has no tokens; write one or take the row out")
            if vocab_size is not None and max(ids) >= vocab_size:
                raise ValueError(
                    f"the tokenizer yields token {max(ids)}, which the model lacks (it has {vocab_size}); "
                    "model and tokenizer do not belong together"
                )
            if context is None or (whole and len(ids) + max_new_tokens <= context):
                done.append(Prompt(row.id, entry.text, ids, row.fields, entry.turns))
            else:
                shortened, warning = _shorten(prompts, entry, ids, whole, tokenizer, context, max_new_tokens)
                done += shortened
                warnings.append(warning)
        except ValueError as error:
            mistakes.append(Mistake(row.where, str(error)))
    mistakes += [
        Mistake("prompts", f"two prompts have the id {prompt_id!r} once long ones are split; rename one")
        for prompt_id, count in Counter(prompt.id for prompt in done).items()
        if count > 1
    ]
    if mistakes:
        raise ConfigError(mistakes)
    return PreparedPrompts(tuple(done), tuple(warnings))


def _shorten(
    prompts: Prompts,
    entry: RenderedRow,
    ids: tuple[int, ...],
    whole: bool,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    max_new_tokens: int,
) -> tuple[list[Prompt], str]:
    """Return the prompts that `prompts.too_long` makes of one that does not fit, and a warning.

    `ids` are those of its beginning only, if it is not the `whole` prompt; then it cannot be shortened.

    Raises:
        ValueError: it cannot be shortened, or must not be.
    """
    row = entry.row
    tokens = f"{len(ids)} tokens" if whole else f"more than {len(ids)} tokens"
    size = f"{tokens} + {max_new_tokens} new ones > the model's {context}"
    if prompts.too_long == "error" or (prompts.too_long == "split" and entry.chat):
        cure = "shorten it, lower generation.max_new_tokens, or set prompts.too_long=truncate_left"
        cure += " (a chat prompt cannot be split)" if prompts.too_long == "split" else " or split"
        raise ValueError(f"prompt {row.id!r} does not fit: {size}; {cure}")
    # A BOS stays in front of every chunk.
    bos = ids[:1] if ids[0] == tokenizer.bos_token_id else ()
    room = context - max_new_tokens - len(bos)
    if room < 1:
        raise ValueError(f"prompt {row.id!r} does not fit: {size}; lower generation.max_new_tokens")
    body = ids[len(bos) :]
    if prompts.too_long == "truncate_left":
        end = _from_character(body[-room:], body, tokenizer)
        prompt = Prompt(row.id, _decode(tokenizer, end), bos + end, row.fields, entry.turns)
        return [prompt], f"prompt {row.id!r} was truncated on the left to {len(prompt.ids)} tokens: {size}"
    chunks = split_ids(body, room, tokenizer)
    split = [
        Prompt(f"{row.id}.{number}", _decode(tokenizer, chunk), bos + chunk, row.fields)
        for number, chunk in enumerate(chunks, 1)
    ]
    return split, f"prompt {row.id!r} was split into {len(split)} prompts: {size}"


def split_ids(ids: Sequence[int], room: int, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, ...]]:
    """Split ids into consecutive chunks of at most `room`, not within a character where that is possible."""
    chunks: list[tuple[int, ...]] = []
    start = 0
    while start < len(ids):
        end = min(start + room, len(ids))
        if end < len(ids):
            for back in range(min(_MAX_CHARACTER, end - start)):
                if not _ends_within_character(tokenizer, ids[start : end - back]):
                    end -= back
                    break
        chunks.append(tuple(ids[start:end]))
        start = end
    return chunks


def _from_character(
    end: tuple[int, ...], body: tuple[int, ...], tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    """Return the end of `body` without leading tokens that only complete a character begun before it."""
    before = body[: len(body) - len(end)]
    for skip in range(min(_MAX_CHARACTER, len(end))):
        context = (*before[-_MAX_CHARACTER:], *end[:skip])
        if not context or not _ends_within_character(tokenizer, context):
            return end[skip:]
    return end


def _ends_within_character(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> bool:
    return _decode(tokenizer, ids).endswith("\ufffd")


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
