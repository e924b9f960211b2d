"""From a row to the text and the token ids that the model reads: template, chat template, special tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.config.point import Prompts
from harness.errors import ConfigError, Mistake
from harness.prompts.chat import TemplateLimitError, changing_parts, chat_text, check_system
from harness.prompts.source import PromptRow, line_end_warnings
from harness.prompts.template import fill, parse_template
from harness.prompts.turns import known_roles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class RenderedRow:
    """A row with the text that the model would get; of a chat, the turns that its template made it of."""

    row: PromptRow
    text: str
    turns: tuple[Mapping[str, Any], ...] = ()

    @property
    def chat(self) -> bool:
        """Whether it went through the chat template."""
        return bool(self.turns)


def render_rows(
    prompts: Prompts, rows: Sequence[PromptRow], tokenizer: PreTrainedTokenizerBase | None, model_id: str
) -> tuple[list[RenderedRow], list[Mistake], list[str]]:
    """Render every row; return what could be rendered, the mistakes, and warnings.

    `prompts.chat`: `auto` sends rows with `messages` through the chat template, `true` makes a user turn of
    a text as well, `false` takes texts as they are. Without a tokenizer a server applies the template to the
    turns.
    """
    try:
        segments = None if prompts.template is None else parse_template(prompts.template)
    except ConfigError as error:
        return [], list(error.mistakes), []
    rendered: list[RenderedRow] = []
    mistakes: list[Mistake] = []
    contents: set[str] = set()
    for row in rows:
        try:
            text = row.prompt if segments is None else fill(segments, row.values())
            if row.messages is None and not (text or "").strip():
                raise ValueError("the prompt is empty after prompts.template")
            turns = _turns(prompts, row, text, templated=segments is not None)
            if turns is None:
                rendered.append(RenderedRow(row, text or ""))
            elif tokenizer is None:  # a server, which has the chat template
                rendered.append(RenderedRow(row, plain_chat(turns), tuple(turns)))
            elif tokenizer.chat_template:
                turns = known_roles(turns, tokenizer.chat_template)
                tools = row.fields.get("tools") if row.messages is not None else None
                chat = chat_text(tokenizer, turns, model_id, tools)
                if turns[0] == {"role": "system", "content": prompts.system}:
                    check_system(tokenizer, turns, chat, model_id, tools)
                rendered.append(RenderedRow(row, chat, tuple(turns)))
                contents.add(json.dumps([turns, tools], default=str))
            else:
                mistakes.append(Mistake("prompts.chat", _no_chat_template(row, model_id)))
                break
        except ValueError as error:
            mistakes.append(Mistake(row.where, str(error)))
            if isinstance(error, TemplateLimitError):
                break
    chats = [entry.text for entry in rendered if entry.chat]
    if len(contents) > 1 and len(set(chats)) == 1:
        message = f"the chat template of {model_id} makes one text of {len(chats)} different chats"
        mistakes.append(Mistake("model.chat_template", f"{message}: it does not read their turns"))
    warnings = [*line_end_warnings(prompts, rows)]
    if chats and tokenizer is not None and (parts := " and ".join(changing_parts(tokenizer.chat_template))):
        warnings.append(
            f"prompts.chat: the chat template of {model_id} {parts}, so that another run has other prompts "
            "and nothing is reused; name a copy without it in model.chat_template"
        )
    # A set with both chat prompts and texts uses the template deliberately.
    unused = rendered and not any(entry.chat for entry in rendered)
    if unused and prompts.chat is not False and tokenizer is not None and tokenizer.chat_template:
        warnings.append(
            f"prompts.chat: {model_id} has a chat template that no prompt uses; prompts.chat=true uses it, "
            "prompts.chat=false silences this warning"
        )
    return rendered, mistakes, warnings


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Return the text's token ids with the tokenizer's special tokens in front, each exactly once.

    A text that begins with BOS already (as most chat templates make it) gets no second one; an EOS that the
    tokenizer would append is left out, since the model is to continue the text.
    """
    plain = _ids(tokenizer, text, special=False)
    full = _ids(tokenizer, text, special=True)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if eos is not None and full[-1:] == [eos] and full[-len(plain) - 1 : -1] == plain:
        full = full[:-1]
    if bos is not None and plain[:1] == [bos] and full == [bos, *plain]:
        full = plain
    return tuple(full)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    # verbose=False: `fit` reports texts longer than the context, with what was done about them.
    return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _turns(
    prompts: Prompts, row: PromptRow, text: str | None, *, templated: bool
) -> list[Mapping[str, Any]] | None:
    """Return the chat turns of a row; None when its text is to be taken as it is."""
    if row.messages is not None:
        if prompts.chat is False:
            raise ValueError("holds `messages`, which prompts.chat=false cannot use; set prompts.chat=auto")
        if templated:
            raise ValueError("holds `messages`, which prompts.template cannot fill; use a `prompt` column")
        turns: list[Mapping[str, Any]] = list(row.messages)
    elif prompts.chat is True:
        turns = [{"role": "user", "content": text or ""}]
    elif prompts.system is not None:
        raise ValueError("prompts.system has no effect on a text prompt; set prompts.chat=true, or drop it")
    else:
        return None
    if prompts.system is not None and turns[0]["role"] not in ("system", "developer"):
        turns.insert(0, {"role": "system", "content": prompts.system})
    return turns


def plain_chat(turns: Sequence[Mapping[str, Any]]) -> str:
    """Return turns as a text to be read; what the model reads, its server makes of them."""
    return "\n\n".join(f"{turn['role']}: {turn.get('content') or ''}" for turn in turns)


def _no_chat_template(row: PromptRow, model_id: str) -> str:
    """Return why a chat prompt cannot be rendered, with the cure."""
    return (
        f"{model_id} has no chat template, and there are chat prompts (the first: {row.id!r}); set "
        "model.chat_template, or use text prompts with prompts.chat=false"
    )
