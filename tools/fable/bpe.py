"""The fable tokenizer: a byte-level BPE whose tokens are the grammar's units."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .grammar import END
from .talk import ASSISTANT, SYSTEM, TURN, USER

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BEGIN, PAD = "<|begin|>", "<|pad|>"
SPECIALS = (PAD, BEGIN, END, TURN, SYSTEM, USER, ASSISTANT)
MAX_VOCABULARY = 4096
CONTEXT = 512

SPLIT_PATTERN = r"'s| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s"
"""Pre-tokenization: as `symbols.UNIT`, for every script."""

CHAT_TEMPLATE = """\
{#- No text for the beginning: the tokenizer adds it when the rendered text is encoded. -#}
{%- for message in messages -%}
    {%- if message.role not in ('system', 'user', 'assistant') -%}
        {{- raise_exception("a turn's role is system, user or assistant, not " ~ message.role) -}}
    {%- endif -%}
    {{- '<|' ~ message.role ~ '|>' ~ (message.content | trim) ~ '<|turn|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>' -}}
{%- endif -%}
"""


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Train the tokenizer until every word of the texts is one token.

    Args:
        texts: the corpus, without special tokens other than those of `SPECIALS`.

    Returns:
        A tokenizer that puts `BEGIN` before every text.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        processors,
        trainers,
    )

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(token, special=True, normalized=False) for token in SPECIALS]
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY,
        min_frequency=1,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A",
        pair=f"{BEGIN} $A {BEGIN} $B",
        special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))],
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files that ``AutoTokenizer.from_pretrained(folder)`` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [TURN, SYSTEM, USER, ASSISTANT],
        "model_max_length": CONTEXT,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
