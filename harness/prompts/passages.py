"""Texts that a model is held to: passages of token ids, told from some position on.

A stored sample is one; so is a piece of a fixed text (`drift.text`), which gives perplexities that compare
across models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.rules import PROMPTS_REFERENCE
from harness.errors import ConfigError
from harness.prompts.prompt import Prompt
from harness.prompts.render import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WINDOW = 512
"""Tokens of a fixed text that are read at once; every one of them has half as many before it at least."""


@dataclass(frozen=True)
class Passage:
    """A text as a model reads it.

    Attributes:
        prompt_id: the prompt that it goes on from, or the name of the piece.
        sample: which of the prompt's samples.
        ids: all of its tokens.
        first: the first one that is told; what is before it is only context. At least 1.
    """

    prompt_id: str
    sample: int
    ids: tuple[int, ...]
    first: int

    def __len__(self) -> int:
        """Tokens told."""
        return len(self.ids) - self.first

    @property
    def told(self) -> tuple[int, ...]:
        """The tokens told."""
        return self.ids[self.first :]


@dataclass(frozen=True)
class FixedText:
    """What `drift.text` names, for one model.

    Attributes:
        passages: each of its tokens is told in exactly one of them, but for a first one without BOS.
        bytes: UTF-8 bytes of what is told, by which models with other tokenizers can be compared.
    """

    passages: tuple[Passage, ...]
    bytes: int

    @property
    def tokens(self) -> int:
        """Tokens told."""
        return sum(len(passage) for passage in self.passages)


def fixed_text(
    text: str, prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, context: int | None
) -> FixedText:
    """The passages of `drift.text`.

    Args:
        text: a .txt file, or `reference`: each prompt followed by its row's own reference.
        prompts: of the point.
        tokenizer: of its model.
        context: positions of the model, None for no limit.

    Raises:
        ConfigError: the file cannot be read or holds nothing, no prompt has a reference, or one does not fit.
    """
    if text == PROMPTS_REFERENCE:
        return _references(prompts, tokenizer, context)
    path = Path(text).expanduser()
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError.of(f"drift.text={text}", f"{path} cannot be read: {reason}") from None
    ids = encode(tokenizer, content)
    if len(ids) < 2:
        raise ConfigError.of(f"drift.text={text}", "holds less than two tokens; give a longer text")
    size = len(content.encode())
    if ids[0] != tokenizer.bos_token_id:
        size -= len(str(tokenizer.decode([ids[0]])).encode())
    return FixedText(windows(ids, min(WINDOW, context or WINDOW)), size)


def windows(ids: Sequence[int], width: int) -> tuple[Passage, ...]:
    """A long text in windows that overlap by half, each token told once.

    Transformers' guide to the perplexity of fixed-length models calls it a strided sliding window; llama.cpp
    tells the second half of each window as well, and leaves the first half of its windows, which do not
    overlap, untold.
    """
    found: list[Passage] = []
    told = 1
    while told < len(ids):
        start = 0 if told == 1 else told - width // 2
        piece = tuple(ids[start : start + width])
        found.append(Passage(f"text-{len(found):05d}", 0, piece, told - start))
        told = start + len(piece)
    return tuple(found)


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
            text = f" {reference}"  # a prompt ends at a word, and a chat template's turn in a mark of its own
        whole = encode(tokenizer, prompt.text + text)
        if whole[: len(prompt.ids)] == prompt.ids:
            ids = whole
        else:  # a token of theirs spans the two, or the prompt was cut
            ids = (*prompt.ids, *tokenizer(text, add_special_tokens=False)["input_ids"])
        if context is not None and len(ids) > context:
            said = f"{len(ids)} tokens > the model's {context}"
            raise ConfigError.of(
                key, f"the reference of prompt {prompt.id!r} does not fit: {said}; shorten it"
            )
        if len(ids) > len(prompt.ids):
            passages.append(Passage(prompt.id, 0, ids, len(prompt.ids)))
            size += len(text.encode())
    if not passages:
        message = "no prompt has a text in a column `reference`; add one to prompts.file, or name a .txt file"
        raise ConfigError.of(key, message)
    return FixedText(tuple(passages), size)
