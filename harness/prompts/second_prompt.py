"""The second prompt of a guided strategy: what its distribution is contrasted with, for each prompt.

Of classifier-free guidance it is the negative prompt: the row's `negative_prompt`, else the strategy's, else
the prompt's last token alone. Of context-aware decoding it is the prompt without the row's `context`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.config.effective import acts
from harness.errors import ConfigError, Mistake
from harness.prompts.chat import Turns, chat_text
from harness.prompts.prompt import Prompt
from harness.prompts.render import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Encode = Callable[[str], tuple[int, ...]]
ChatText = Callable[[Turns, Prompt], str]


def second_prompts(
    prompts: Sequence[Prompt],
    effective: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    model_id: str,
    longest: int | None,
) -> dict[str, tuple[int, ...]]:
    """Return the ids of each prompt's second prompt, by prompt id.

    Args:
        prompts: of a strategy that needs second prompts.
        effective: the strategy.
        tokenizer: of the model.
        model_id: of the model, for messages.
        longest: tokens that a prompt may have; None where there is no limit.

    Raises:
        ConfigError: prompts lack what the strategy needs of them, or a second prompt does not fit.
    """

    def chat(turns: Turns, prompt: Prompt) -> str:
        return chat_text(tokenizer, turns, model_id, prompt.row.get("tools"))

    def ids_of(prompt: Prompt) -> tuple[int, ...]:
        if acts(effective, "context_alpha"):
            return encode(tokenizer, _without_context(prompt, chat))
        text = _negative(prompt, effective.get("negative_prompt"), chat)
        return prompt.ids[-1:] if text is None else encode(tokenizer, text)

    found: dict[str, tuple[int, ...]] = {}
    wrong: dict[str, list[str]] = {}
    for prompt in prompts:
        try:
            ids = ids_of(prompt)
            if not ids:
                raise ValueError("what it is contrasted with has no tokens; write more, or leave it out")
            if longest is not None and len(ids) > longest:
                problem = f"what it is contrasted with has {len(ids)} tokens, and {longest} fit"
                raise ValueError(f"{problem}; shorten it, or lower generation.max_new_tokens")
            found[prompt.id] = ids
        except ValueError as error:
            wrong.setdefault(str(error), []).append(prompt.id)
    if wrong:
        raise ConfigError(Mistake(_named(ids), message) for message, ids in wrong.items())
    return found


def _named(ids: Sequence[str]) -> str:
    return f"prompt {ids[0]}" + (f" and {len(ids) - 1} more" if len(ids) > 1 else "")


def _negative(prompt: Prompt, common: str | None, chat: ChatText) -> str | None:
    """Return the text of the negative prompt; None where there is none.

    Of a chat it takes the place of the system turn (Sanchez et al. 2023).
    """
    text = prompt.row.get("negative_prompt", common)
    if text is None or text != text:  # an empty cell of a table is NaN
        return None
    if not isinstance(text, str):
        raise ValueError(f"`negative_prompt` is no text but {text!r:.40}; write a text")
    if not prompt.chat:
        return text
    rest = [turn for turn in prompt.turns if turn["role"] != "system"]
    return chat([{"role": "system", "content": text}, *rest], prompt)


def _without_context(prompt: Prompt, chat: ChatText) -> str:
    """Return the prompt's text without its context, which is left out where it first occurs."""
    context = prompt.row.get("context")
    if not isinstance(context, str) or not context.strip():
        cure = "give its row one, or use decoding.context_alpha=null"
        raise ValueError(f"no `context`, which decoding.context_alpha leaves out; {cure}")
    if not prompt.chat:
        return _cut(prompt.text, context)
    turns = [dict(turn) for turn in prompt.turns]
    holder = next((turn for turn in turns if context in str(turn["content"])), turns[-1])
    holder["content"] = _cut(str(holder["content"]), context)
    return chat([turn for turn in turns if turn["content"].strip() or turn.get("tool_calls")], prompt)


def _cut(text: str, context: str) -> str:
    before, found, after = text.partition(context)
    if not found:
        cure = "put it there, as with 'prompts.template=\"{context} {prompt}\"'"
        raise ValueError(f"the text does not hold the `context`; {cure}")
    return (before + after).lstrip()
