"""The whole way from a prompt set to prompts that fit the model: read, render, encode, measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.config.point import Prompts
from harness.errors import ConfigError, Mistake
from harness.models.locate import ModelFiles
from harness.prompts.prompt import Prompt
from harness.prompts.render import Rendered, encode, render_rows
from harness.prompts.source import read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LONGEST_CHARACTER = 4  # bytes of UTF-8, so at most as many byte-level tokens


@dataclass(frozen=True)
class PreparedPrompts:
    """Prompts ready for a model, and what is worth telling about them, one line each."""

    prompts: tuple[Prompt, ...]
    warnings: tuple[str, ...]


def prepare_prompts(
    prompts: Prompts, model_files: ModelFiles, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int
) -> PreparedPrompts:
    """Read, render and encode a prompt set so that every prompt fits the model with its budget.

    Args:
        prompts: the prompt set.
        model_files: the model; its context length is the limit.
        tokenizer: of that model, with the chat template in use.
        max_new_tokens: tokens to be generated after each prompt.

    Raises:
        ConfigError: every mistake found in the set.
    """
    rows = read_rows(prompts)
    rendered, mistakes, warnings = render_rows(prompts, rows, tokenizer, model_files.id)
    context, vocab_size = model_files.context_length, model_files.vocab_size
    if context is not None and max_new_tokens >= context:
        message = (
            f"{max_new_tokens} leave no room for a prompt in the {context} positions of {model_files.id}"
        )
        raise ConfigError([*mistakes, Mistake("generation.max_new_tokens", message)])
    done: list[Prompt] = []
    for entry in rendered:
        ids = encode(tokenizer, entry.text)
        if not ids:
            mistakes.append(
                Mistake(entry.row.where, "the prompt has no tokens; write one or take the row out")
            )
        elif vocab_size is not None and max(ids) >= vocab_size:
            message = (
                f"the tokenizer makes token {max(ids)} of it, which the model lacks (it has {vocab_size})"
            )
            mistakes.append(
                Mistake(entry.row.where, f"{message}; model and tokenizer do not belong together")
            )
        elif context is None or len(ids) + max_new_tokens <= context:
            done.append(Prompt(entry.row.id, entry.text, ids, entry.row.fields))
        else:
            made, told, mistake = _shorten(prompts, entry, ids, tokenizer, context, max_new_tokens)
            done += made
            warnings += told
            mistakes += mistake
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
    entry: Rendered,
    ids: tuple[int, ...],
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    max_new_tokens: int,
) -> tuple[list[Prompt], list[str], list[Mistake]]:
    """What `prompts.too_long` makes of a prompt that does not fit: prompts, warnings, mistakes."""
    row = entry.row
    size = f"{len(ids)} tokens + {max_new_tokens} new ones > the model's {context}"
    if prompts.too_long == "error" or (prompts.too_long == "split" and entry.chat):
        cure = "shorten it, lower generation.max_new_tokens, or set prompts.too_long=truncate_left"
        cure += " (a chat prompt cannot be split)" if prompts.too_long == "split" else " or split"
        return [], [], [Mistake(row.where, f"prompt {row.id!r} does not fit: {size}; {cure}")]
    front = _front(ids, tokenizer)
    room = context - max_new_tokens - len(front)
    if room < 1:
        return (
            [],
            [],
            [Mistake(row.where, f"prompt {row.id!r} does not fit: {size}; no room is left beside BOS")],
        )
    body = ids[len(front) :]
    if prompts.too_long == "truncate_left":
        piece = _from_character(body[-room:], body, tokenizer)
        kept = Prompt(row.id, _decode(tokenizer, piece), front + piece, row.fields)
        return [kept], [f"prompt {row.id!r} was cut on the left to {len(kept.ids)} tokens: {size}"], []
    pieces = split_ids(body, room, tokenizer)
    made = [
        Prompt(f"{row.id}.{place}", _decode(tokenizer, piece), front + piece, row.fields)
        for place, piece in enumerate(pieces, 1)
    ]
    return made, [f"prompt {row.id!r} was split into {len(made)} pieces: {size}"], []


def split_ids(ids: Sequence[int], room: int, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, ...]]:
    """Cut ids into consecutive pieces of at most `room`, not within a character where that can be helped."""
    pieces: list[tuple[int, ...]] = []
    start = 0
    while start < len(ids):
        end = min(start + room, len(ids))
        if end < len(ids):
            for back in range(min(_LONGEST_CHARACTER, end - start)):
                if not _ends_within_character(tokenizer, ids[start : end - back]):
                    end -= back
                    break
        pieces.append(tuple(ids[start:end]))
        start = end
    return pieces


def _front(ids: tuple[int, ...], tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """BOS, where the prompt begins with it: it stays in front of whatever is left."""
    return ids[:1] if tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id else ()


def _from_character(
    piece: tuple[int, ...], body: tuple[int, ...], tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    """The piece less the tokens at its beginning that only end a character begun before it."""
    before = body[: len(body) - len(piece)]
    for skip in range(min(_LONGEST_CHARACTER, len(piece))):
        context = (*before[-_LONGEST_CHARACTER:], *piece[:skip])
        if not context or not _ends_within_character(tokenizer, context):
            return piece[skip:]
    return piece


def _ends_within_character(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> bool:
    return _decode(tokenizer, ids).endswith("\ufffd")


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
