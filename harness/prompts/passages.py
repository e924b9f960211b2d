"""Texts that a model is scored on: token ids, of which those from some index on are the targets.

A stored sample is one; so is a window of a fixed text (`drift.text`), whose perplexity can be compared
across models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.config.rules import PROMPTS_REFERENCE
from harness.config.text_file import read_text
from harness.errors import ConfigError
from harness.prompts.prompt import Prompt
from harness.prompts.render import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WINDOW = 512
"""Tokens of a fixed text in one window; each target has at least half as many tokens before it."""


@dataclass(frozen=True)
class Passage:
    """A text that a model is scored on.

    Attributes:
        prompt_id: the prompt that it continues, or the name of the window.
        sample: which of the prompt's samples.
        ids: all of its tokens.
        first_target: index of the first token that is scored, at least 1; those before it are context.
    """

    prompt_id: str
    sample: int
    ids: tuple[int, ...]
    first_target: int

    def __len__(self) -> int:
        """Return the number of targets."""
        return len(self.ids) - self.first_target

    @property
    def target_ids(self) -> tuple[int, ...]:
        """The tokens that are scored."""
        return self.ids[self.first_target :]


@dataclass(frozen=True)
class FixedText:
    """What `drift.text` names, for one model.

    Attributes:
        passages: each token is a target in exactly one of them, except the very first without a BOS.
        bytes: UTF-8 bytes of the targets, by which models with other tokenizers can be compared.
    """

    passages: tuple[Passage, ...]
    bytes: int

    @property
    def tokens(self) -> int:
        """The number of targets."""
        return sum(len(passage) for passage in self.passages)


def fixed_text(
    text: str, prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, context: int | None
) -> FixedText:
    """Return the passages of `drift.text`.

    Args:
        text: a .txt file, or `reference`: each prompt followed by the reference of its row.
        prompts: of the point.
        tokenizer: of its model.
        context: positions of the model, None for no limit.

    Raises:
        ConfigError: the file is unreadable or empty, no prompt has a reference, or one does not fit.
    """
    if text == PROMPTS_REFERENCE:
        return _references(prompts, tokenizer, context)
    content = read_text(text, f"drift.text={text}")
    ids = encode(tokenizer, content)
    if len(ids) < 2:
        raise ConfigError.of(f"drift.text={text}", "has fewer than two tokens; give a longer text")
    size = len(content.encode())
    if ids[0] != tokenizer.bos_token_id:
        size -= len(str(tokenizer.decode([ids[0]])).encode())
    return FixedText(sliding_windows(ids, min(WINDOW, context or WINDOW)), size)


def sliding_windows(ids: Sequence[int], width: int) -> tuple[Passage, ...]:
    """Split a long text into windows that overlap by half, so that each token is a target once.

    Transformers' guide to the perplexity of fixed-length models calls it a strided sliding window.
    """
    windows: list[Passage] = []
    scored = 1
    while scored < len(ids):
        start = 0 if scored == 1 else scored - width // 2
        window = tuple(ids[start : start + width])
        windows.append(Passage(f"text-{len(windows):05d}", 0, window, scored - start))
        scored = start + len(window)
    return tuple(windows)


def _references(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, context: int | None
) -> FixedText:
    key = f"drift.text={PROMPTS_REFERENCE}"
    passages, size = [], 0
    for prompt in prompts:
        reference = prompt.row.get("reference")
        if not isinstance(reference, str) or not reference:
            continue
        text = reference
        if not prompt.text[-1:].isspace() and reference[0].isalnum() and prompt.text[-1:] not in ">]":
            text = f" {reference}"  # a prompt ends with a word, a chat template's turn with a marker
        joined = encode(tokenizer, prompt.text + text)
        if joined[: len(prompt.ids)] == prompt.ids:
            ids = joined
        else:  # a token spans the border of the two, or the prompt was truncated
            ids = (*prompt.ids, *tokenizer(text, add_special_tokens=False)["input_ids"])
        if context is not None and len(ids) > context:
            counts = f"{len(ids)} tokens > the model's {context}"
            problem = f"the reference of prompt {prompt.id!r} does not fit: {counts}; shorten it"
            raise ConfigError.of(key, problem)
        if len(ids) > len(prompt.ids):
            passages.append(Passage(prompt.id, 0, ids, len(prompt.ids)))
            size += len(text.encode())
    if not passages:
        message = "no prompt has a text in a column `reference`; add one to prompts.file, or name a .txt file"
        raise ConfigError.of(key, message)
    return FixedText(tuple(passages), size)
