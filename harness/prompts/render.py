"""From a row to the text and the token ids that the model reads: template, chat template, special tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.config.point import Prompts
from harness.errors import ConfigError, Mistake
from harness.prompts.source import Row
from harness.prompts.template import fill, parse_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Rendered:
    """A row as the model would get it: `text`, and whether a chat template made it."""

    row: Row
    text: str
    chat: bool


def render_rows(
    prompts: Prompts, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, model_id: str
) -> tuple[list[Rendered], list[Mistake], list[str]]:
    """Render every row; returns what could be rendered, the mistakes, and warnings.

    `prompts.chat`: `auto` sends rows that hold `messages` through the chat template, `true` makes a user
    turn of a text as well, `false` takes texts as they are.
    """
    try:
        parts = None if prompts.template is None else parse_template(prompts.template)
    except ConfigError as error:
        return [], list(error.mistakes), []
    has_template = bool(tokenizer.chat_template)
    rendered: list[Rendered] = []
    mistakes: list[Mistake] = []
    for row in rows:
        try:
            text = row.prompt if parts is None else fill(parts, row.values())
            if row.messages is None and not (text or "").strip():
                raise ValueError("the prompt is empty after prompts.template")
            turns = _turns(prompts, row, text, templated=parts is not None)
            if turns is None:
                rendered.append(Rendered(row, text or "", chat=False))
            elif has_template:
                rendered.append(Rendered(row, _chat_text(tokenizer, turns, model_id), chat=True))
        except ValueError as error:
            mistakes.append(Mistake(row.where, str(error)))
            continue
        if turns is not None and not has_template:
            message = (
                f"{model_id} has no chat template, and there are chat prompts (the first: {row.id!r}); set "
                "model.chat_template, or use text prompts with prompts.chat=false"
            )
            mistakes.append(Mistake("prompts.chat", message))
            break
    return rendered, mistakes, _warnings(prompts, rendered, has_template, model_id)


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """The text's token ids with the tokenizer's special tokens in front, each exactly once.

    A text that begins with BOS already (a chat template's, as a rule) gets no second one; an EOS that the
    tokenizer would put behind is left out, since the model is to go on from here.
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
    # verbose=False: that a text is longer than the context is told by `fit`, with what was done about it.
    return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _turns(
    prompts: Prompts, row: Row, text: str | None, *, templated: bool
) -> list[Mapping[str, str]] | None:
    """The chat turns of a row; None when its text is to be taken as it is."""
    if row.messages is not None:
        if prompts.chat is False:
            raise ValueError("holds `messages`, which prompts.chat=false cannot use; set prompts.chat=auto")
        if templated:
            raise ValueError("holds `messages`, which prompts.template cannot fill; use a `prompt` column")
        turns: list[Mapping[str, str]] = list(row.messages)
    elif prompts.chat is True:
        turns = [{"role": "user", "content": text or ""}]
    else:
        if prompts.system is not None:
            raise ValueError(
                "prompts.system has no effect on a text prompt; set prompts.chat=true, or drop it"
            )
        return None
    if prompts.system is not None and turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": prompts.system})
    return turns


def _chat_text(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Mapping[str, str]], model_id: str) -> str:
    import jinja2

    # A last turn of the assistant's own is a beginning that the model is to go on with.
    begun = turns[-1]["role"] == "assistant"
    conversation: list[Any] = [dict(turn) for turn in turns]
    try:
        text = tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=not begun, continue_final_message=begun
        )
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"the chat template of {model_id} refuses these turns: {line}") from None
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"the chat template of {model_id} makes an empty text of these turns")
    return text


def _warnings(prompts: Prompts, rendered: Sequence[Rendered], has_template: bool, model_id: str) -> list[str]:
    # A set that holds chat prompts beside texts knows about the template.
    unused = rendered and not any(entry.chat for entry in rendered)
    if not has_template or not unused or prompts.chat is False:
        return []
    return [
        f"prompts.chat: {model_id} has a chat template that no prompt uses; prompts.chat=true uses it, "
        "prompts.chat=false says that it is meant so"
    ]
